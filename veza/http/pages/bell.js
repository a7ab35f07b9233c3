// The bell: how many notifications are unread, live, and the latest of them a click away.

import { session, whole } from "./api.js";
import { h, say, sentence, when } from "./dom.js";
import "./live.js";
import { markAllRead, noticeLink } from "./notices.js";

const SHOWN = 8;
const FRESH = 5_000; // milliseconds in which a tab that is looked at again need not ask

const number = h("span", { class: "number", hidden: true });
const button = h(
  "button",
  {
    class: "plain bell",
    type: "button",
    "aria-expanded": "false",
    "aria-controls": "bell-list",
    "aria-label": "Notifications",
    onclick: () => toggle(),
  },
  h("span", { class: "bell-shape" }),
  number,
);
const list = h("ul", { class: "notices" });
const state = h("output", { class: "small" });
const all = h("button", { class: "link", type: "button", onclick: readAll }, "Mark all read");
const panel = h(
  "div",
  { id: "bell-list", class: "card panel", hidden: true, role: "region", "aria-label": "Notifications" },
  h("div", { class: "row spread" }, h("b", {}, "Notifications"), all),
  list,
  state,
  h("a", { href: "/notifications" }, "All of them, and what to be told of"),
);
const heard = h("span", { class: "unseen", role: "status" });
export const bell = h("div", { class: "bell-place" }, button, panel, heard);

let unread = 0;
let asked = 0;
let answered = 0; // the number of the last look whose answer is here
let last = 0;

function count(found) {
  if (Number.isInteger(found)) unread = found;
  number.textContent = unread > 99 ? "99+" : String(unread);
  number.hidden = unread === 0;
  button.setAttribute("aria-label", unread ? `Notifications, ${unread} unread` : "Notifications");
  all.hidden = unread === 0;
}

function item(notice) {
  return h("li", {}, noticeLink(notice), h("span", { class: "small" }, when(notice.created_at)));
}

async function look() {
  const order = ++asked;
  bell.hidden = !session();
  if (!session()) {
    answered = order;
    return count(0);
  }
  try {
    const { data } = await whole("GET", `/notifications?limit=${SHOWN}`);
    if (order !== asked) return;
    answered = order;
    last = Date.now();
    list.replaceChildren(...data.notifications.map(item));
    say(state, data.notifications.length ? "" : "Nothing yet.");
    count(data.unread);
  } catch (error) {
    if (order !== asked) return;
    answered = order;
    say(state, sentence(error), true);
  }
}

async function readAll() {
  try {
    await markAllRead();
    await look();
  } catch (error) {
    say(state, sentence(error), true);
  }
}

function toggle(open = panel.hidden) {
  panel.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  if (open) look();
}

window.addEventListener("veza:notification", ({ detail: notice }) => {
  if (!notice.id) return look(); // of an older kind, which is not kept
  list
    .querySelector(`[data-id="${Number(notice.id)}"]`)
    ?.closest("li")
    .remove();
  list.prepend(item(notice));
  while (list.children.length > SHOWN) list.lastChild.remove();
  say(state, "");
  count(notice.unread ?? unread + 1);
  heard.textContent = list.firstChild.querySelector("a span").textContent;
  if (answered !== asked) look(); // what is being answered may not know of it
});
window.addEventListener("veza:notifications_read", look);
window.addEventListener("veza:connected", look);
window.addEventListener("veza:session", look);
document.addEventListener("visibilitychange", () => document.hidden || Date.now() - last < FRESH || look());
document.addEventListener("click", (event) => panel.hidden || bell.contains(event.target) || toggle(false));
bell.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || panel.hidden) return;
  toggle(false);
  button.focus();
});
look();
