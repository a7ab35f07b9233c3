// The start page: who is on air, what was uploaded and offered last, where people talk, and the ways to add to it.

import { logInLink } from "./account.js";
import { call, session, upload } from "./api.js";
import { listingCard, roomCard, streamCard, trackCard } from "./cards.js";
import { $, h, onSubmit, say, sentence } from "./dom.js";

const PAGE = 12;
const ROOMS = 6;
let shown = 0;
let asked = 0;

async function showTracks(more = false) {
  const order = ++asked;
  const form = new FormData($("#find-tracks"));
  const query = new URLSearchParams({ sort: form.get("sort"), limit: PAGE, page: more ? shown / PAGE + 1 : 1 });
  if (form.get("search").trim()) query.set("search", form.get("search").trim());
  let page;
  try {
    page = await call("GET", `/tracks?${query}`);
  } catch (error) {
    page = { tracks: [], total: 0, reason: sentence(error) };
  }
  if (order !== asked) return; // something else was typed meanwhile
  const cards = page.tracks.map(trackCard);
  if (more) $("#tracks").append(...cards);
  else $("#tracks").replaceChildren(...cards);
  shown = $("#tracks").children.length;
  $("#more").hidden = shown >= page.total || shown % PAGE !== 0;
  $("#none").hidden = shown > 0;
  $("#none").textContent = page.reason || "Nothing here yet.";
}

async function showStreams() {
  try {
    const { streams } = await call("GET", "/streams?live=true&limit=12");
    $("#streams").replaceChildren(...streams.map(streamCard));
    $("#on-air").hidden = streams.length === 0;
  } catch {
    // What stands there stays; the next look comes soon.
  }
}

async function showListings() {
  try {
    const { listings } = await call("GET", "/listings?limit=8");
    $("#listings").replaceChildren(...listings.map(listingCard));
    $("#for-sale").hidden = listings.length === 0;
  } catch {
    // The market's own page says what is wrong.
  }
}

async function showRooms() {
  const none = $("#no-rooms");
  if (!session()) {
    $("#rooms").replaceChildren();
    none.replaceChildren(logInLink(), " to see the rooms.");
    none.hidden = false;
    return;
  }
  try {
    const { rooms } = await call("GET", "/chat/rooms?limit=100");
    const time = (room) => new Date(room.last_message?.created_at || 0); // where nobody spoke yet comes last
    rooms.sort((one, other) => time(other) - time(one));
    $("#rooms").replaceChildren(...rooms.slice(0, ROOMS).map(roomCard));
    none.textContent = "No rooms yet.";
    none.hidden = rooms.length > 0;
  } catch (error) {
    none.textContent = sentence(error);
    none.hidden = false;
  }
}

let typing;
$("#find-tracks").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(showTracks, 250);
});
$("#find-tracks").addEventListener("submit", (event) => event.preventDefault());
$("#more").addEventListener("click", () => showTracks(true));

onSubmit($("#upload"), async (fields, form) => {
  const bar = form.querySelector("progress");
  const place = form.querySelector("output");
  const body = new FormData(); // what is said before the bytes: so it is known when they come
  if (fields.get("title").trim()) body.append("title", fields.get("title").trim());
  if (fields.get("tags").trim()) body.append("tags", fields.get("tags").trim());
  body.append("is_public", fields.get("private") ? "false" : "true");
  body.append("file", fields.get("file"));
  bar.hidden = false;
  try {
    let track = await upload("/tracks", body, (part) => (bar.value = part));
    say(place, `“${track.title}” is stored and being processed…`);
    bar.removeAttribute("value"); // however long that takes
    while (track.status === "processing") {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      track = await call("GET", `/tracks/${track.id}`);
    }
    if (track.status === "failed") throw new Error(track.failure || "It could not be processed.");
    form.reset();
    place.replaceChildren(h("a", { href: `/tracks/${track.id}` }, `“${track.title}” can be heard.`));
    await showTracks();
  } finally {
    bar.hidden = true;
  }
});

onSubmit($("#go-live"), async (fields) => {
  const made = await call("POST", "/streams", {
    json: {
      title: fields.get("title").trim(),
      visibility: fields.get("visibility"),
      record: Boolean(fields.get("record")),
    },
  });
  // The key is shown once: this tab keeps it for the next page, and no longer than it is open.
  sessionStorage.setItem(`veza.source.${made.slug}`, JSON.stringify(made.source));
  location.href = `/s/${made.slug}/broadcast`;
});

function showLiving() {
  showStreams();
  showRooms();
}

window.addEventListener("veza:session", () => {
  showTracks();
  showRooms();
});
showTracks();
showListings();
showLiving();
setInterval(() => document.hidden || showLiving(), 10_000);
if (location.hash === "#upload" && session()) $("#upload input").focus();
