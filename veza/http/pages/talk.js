// Where people talk: one's letters, the rooms there are, and a way to open another.

import { logInLink } from "./account.js";
import { call, session, whole } from "./api.js";
import { face, roomCard } from "./cards.js";
import { $, h, onSubmit, say, sentence, when } from "./dom.js";

const PAGE = 60;
const find = $("#find-rooms");
let page = 1;
let asked = 0;

function letterCard(letter) {
  return h(
    "li",
    {},
    h(
      "a",
      { class: "card", href: `/messages/${letter.user_id}` },
      h("span", { class: "headline" }, face(letter), h("b", {}, letter.username)),
      h("span", { class: "line" }, letter.last_message || "…"),
      h(
        "span",
        { class: "small" },
        [when(letter.last_activity), letter.unread_count ? `${letter.unread_count} unread` : ""]
          .filter(Boolean)
          .join(" · "),
      ),
    ),
  );
}

async function showLetters() {
  const { conversations } = await call("GET", "/chat/conversations?limit=24");
  $("#letters").replaceChildren(...conversations.map(letterCard));
  $("#wrote").hidden = conversations.length === 0;
}

async function showRooms(more = false) {
  const order = ++asked;
  page = more ? page + 1 : 1;
  const query = new URLSearchParams({ limit: PAGE, page });
  if (find.elements.search.value.trim()) query.set("search", find.elements.search.value.trim());
  if (find.elements.mine.checked) query.set("mine", "true");
  const { data, meta } = await whole("GET", `/chat/rooms?${query}`);
  if (order !== asked) return; // something else was typed meanwhile
  const cards = data.rooms.map(roomCard);
  if (more) $("#rooms").append(...cards);
  else $("#rooms").replaceChildren(...cards);
  $("#more").hidden = page >= meta.total_pages;
  say($("#state"), $("#rooms").children.length ? "" : "No rooms here.");
}

async function show(...works) {
  if (!session()) {
    $("#wrote").hidden = true;
    $("#rooms").replaceChildren();
    const link = logInLink();
    $("#state").replaceChildren(link, " to see the rooms.");
    return;
  }
  try {
    await Promise.all(works.map((work) => work()));
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
}

onSubmit($("#new-room"), async (fields) => {
  const json = { name: fields.get("name").trim(), is_private: Boolean(fields.get("private")) };
  if (fields.get("description").trim()) json.description = fields.get("description").trim();
  const room = await call("POST", "/chat/rooms", { json });
  location.href = `/rooms/${room.id}`;
});
let typing;
find.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => show(showRooms), 250);
});
find.addEventListener("submit", (event) => event.preventDefault());
$("#more").addEventListener("click", () => show(() => showRooms(true)));
window.addEventListener("veza:session", () => show(showRooms, showLetters));
show(showRooms, showLetters);
