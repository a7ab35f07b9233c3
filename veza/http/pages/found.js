// Everything that is found for some words, by kind.

import { session, whole } from "./api.js";
import { listingCard, personCard, roomCard, trackCard } from "./cards.js";
import { $, h, say, sentence, when } from "./dom.js";

const query = new URLSearchParams(location.search);
const text = (query.get("q") || "").trim();
const only = $("#kinds").elements.type;
let asked = 0;

function messageCard(message) {
  // A letter names both people: it leads to the other one.
  const { from_user_id: from, to_user_id: to } = message;
  const href = to ? `/messages/${from && from !== session()?.user?.id ? from : to}` : `/rooms/${message.room_id}`;
  const where = to ? " in a letter" : ` in ${typeof message.room === "string" ? message.room : "a private room"}`;
  return h(
    "li",
    {},
    h(
      "a",
      { class: "card", href },
      h("span", {}, h("b", {}, message.username || message.from_username || "somebody"), where),
      h("span", { class: "line" }, message.content),
      h("span", { class: "small" }, when(message.created_at)),
    ),
  );
}

const KINDS = [
  ["people", "People", personCard],
  ["tracks", "Tracks", trackCard],
  ["listings", "On the market", listingCard],
  ["rooms", "Rooms", roomCard],
  ["messages", "Messages", messageCard],
];

async function show() {
  const order = ++asked;
  document.title = $("#title").textContent = text ? `“${text}”` : "Search";
  if (!text) return say($("#state"), "Type what you look for into the box above.");
  const wanted = new URLSearchParams({ q: text, limit: only.value ? 60 : 12 });
  if (only.value) wanted.set("type", only.value);
  try {
    const { data } = await whole("GET", `/search?${wanted}`);
    if (order !== asked) return;
    const parts = KINDS.filter(([kind]) => data[kind]?.length).map(([kind, title, card]) =>
      h(
        "section",
        { "aria-label": title },
        h("h2", {}, title),
        h("ul", { class: kind === "listings" ? "cards small-cards" : "cards", id: kind }, ...data[kind].map(card)),
      ),
    );
    $("#found").replaceChildren(...parts);
    const more = session() ? "" : " Messages are found once you are logged in.";
    say($("#state"), parts.length ? "" : `Nothing is found for “${text}”.${more}`);
  } catch (error) {
    if (order === asked) say($("#state"), sentence(error), true);
  }
}

only.value = query.get("type") || "";
only.addEventListener("change", () => {
  query.set("type", only.value);
  if (!only.value) query.delete("type");
  history.replaceState(null, "", `/search?${query}`);
  show();
});
window.addEventListener("veza:session", show);
show();
