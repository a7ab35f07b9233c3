// All notifications, and what one wants to be told of, where.

import { logInLink } from "./account.js";
import { call, session, whole } from "./api.js";
import { $, h, say, sentence, when } from "./dom.js";
import { markAllRead, markRead, noticeLink } from "./notices.js";

const PAGE = 30;
const WORDS = {
  mention: "somebody mentions me",
  reply: "somebody answers me",
  direct_message: "somebody writes to me while I am away",
  follow: "somebody follows me",
  like: "somebody likes my track",
  repost: "somebody passes my track on",
  comment: "somebody says something about my track",
  offer: "an offer is made or answered",
  listing: "somebody I follow offers something",
  stream_started: "somebody I follow goes on air",
  track_ready: "my track can be heard",
  moderation: "the moderators decide something",
};
const list = $("#notices");
let cursor = "";
let asked = 0;

function item(notice) {
  const read = h(
    "button",
    { class: "link", type: "button", hidden: Boolean(notice.read_at), onclick: () => readOne(notice) },
    "Mark read",
  );
  return h("li", {}, noticeLink(notice), h("span", { class: "row small" }, when(notice.created_at), read));
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
}

const readOne = (notice) =>
  attempt(async () => {
    await markRead(notice.id);
    await show();
  });

async function show(more = false) {
  const order = ++asked;
  if (!session()) {
    list.replaceChildren();
    $("#wishes").hidden = true;
    $("#state").replaceChildren(logInLink(), " to see them.");
    return;
  }
  const query = new URLSearchParams({ limit: PAGE });
  if ($("#unread").checked) query.set("unread", "true");
  if (more && cursor) query.set("cursor", cursor);
  await attempt(async () => {
    const { data, meta } = await whole("GET", `/notifications?${query}`);
    if (order !== asked) return;
    const items = data.notifications.map(item);
    if (more) list.append(...items);
    else list.replaceChildren(...items);
    cursor = meta?.next_cursor || "";
    $("#more").hidden = !cursor;
    $("#all").disabled = data.unread === 0;
    say($("#state"), list.children.length ? "" : "Nothing here.");
  });
}

function row(kind, wish) {
  const box = (channel, label) =>
    h(
      "td",
      {},
      h("input", {
        type: "checkbox",
        checked: wish[channel],
        "aria-label": `${WORDS[kind] || kind}: ${label}`,
        onchange: (event) => save(kind, channel, event.target),
      }),
    );
  return h("tr", {}, h("th", { scope: "row" }, WORDS[kind] || kind), box("socket", "here"), box("email", "by e-mail"));
}

async function save(kind, channel, field) {
  try {
    await call("PUT", "/notifications/preferences", {
      json: { preferences: { [kind]: { [channel]: field.checked } } },
    });
    say($("#saved"), "Saved.");
  } catch (error) {
    field.checked = !field.checked;
    say($("#saved"), sentence(error), true);
  }
}

async function showWishes() {
  if (!session()) return;
  await attempt(async () => {
    const { preferences } = await call("GET", "/notifications/preferences");
    $("#preferences").replaceChildren(...Object.entries(preferences).map(([kind, wish]) => row(kind, wish)));
    $("#wishes").hidden = false;
  });
}

$("#all").addEventListener("click", () =>
  attempt(async () => {
    await markAllRead();
    await show();
  }),
);
$("#unread").addEventListener("change", () => show());
$("#more").addEventListener("click", () => show(true));
let soon; // whoever comes back is told many at once
// What came before this tab was connected another one may have been told of.
for (const each of ["notification", "notifications_read", "connected"]) {
  window.addEventListener(`veza:${each}`, () => {
    clearTimeout(soon);
    soon = setTimeout(show, 100);
  });
}
window.addEventListener("veza:session", () => {
  show();
  showWishes();
});
show();
showWishes();
