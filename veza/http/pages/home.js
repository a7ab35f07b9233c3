// The start page: who is on air, what was uploaded last, and the ways to add to both.

import "./account.js";
import { call, session, upload } from "./api.js";
import { $, clock, count, h, onSubmit, say, sentence } from "./dom.js";

const PAGE = 24;
let shown = 0;
let asked = 0;

function trackCard(track) {
  return h(
    "li",
    {},
    h(
      "a",
      { class: "card", href: `/tracks/${track.id}` },
      h("b", {}, track.title),
      h("span", {}, track.artist || track.owner?.username || ""),
      h(
        "span",
        { class: "small" },
        track.status === "ready"
          ? `${clock(track.duration_ms / 1000)} · ${count(track.play_count, "play")} · ${count(track.like_count, "like")}`
          : track.status === "failed"
            ? "could not be processed"
            : "being processed",
      ),
    ),
  );
}

function streamCard(stream) {
  return h(
    "li",
    {},
    h(
      "a",
      { class: "card", href: `/s/${stream.slug}` },
      h("b", {}, stream.title),
      h("span", {}, stream.song || stream.owner?.username || ""),
      h("span", { class: "small" }, `${stream.category} · ${count(stream.listeners, "listener")}`),
    ),
  );
}

async function showTracks(more = false) {
  const order = ++asked;
  const form = new FormData($("#search"));
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

let typing;
$("#search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(showTracks, 250);
});
$("#search").addEventListener("submit", (event) => event.preventDefault());
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
    let track = await upload(body, (part) => (bar.value = part));
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
    json: { title: fields.get("title").trim(), visibility: fields.get("visibility"), record: Boolean(fields.get("record")) },
  });
  // The key is shown once: this tab keeps it for the next page, and no longer than it is open.
  sessionStorage.setItem(`veza.source.${made.slug}`, JSON.stringify(made.source));
  location.href = `/s/${made.slug}/broadcast`;
});

window.addEventListener("veza:session", () => showTracks());
showTracks();
showStreams();
setInterval(() => document.hidden || showStreams(), 10_000);
if (location.hash === "#upload" && session()) $("#upload input").focus();
