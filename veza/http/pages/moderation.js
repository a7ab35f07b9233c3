// The moderators' queue: what was reported, what it is about, and what is done about it.

import { ask } from "./account.js";
import { call, session, whole } from "./api.js";
import { $, h, say, sentence, when } from "./dom.js";

const list = $("#reports");
const which = $("#which").elements.status;
let cursor = "";
let asked = 0;

function card(report) {
  const place = h("output", { role: "status" });
  const note = h("input", { maxLength: 500, placeholder: "Note", "aria-label": "Note" });
  const close = (status) => async () => {
    try {
      await call("PUT", `/admin/reports/${report.id}`, { json: { status, note: note.value.trim() || null } });
      await show();
    } catch (error) {
      say(place, sentence(error), true);
    }
  };
  return h(
    "li",
    { class: "card report", id: `report-${report.id}` },
    h("p", {}, report.reason),
    h("p", { class: "small" }, when(report.created_at)),
    h(
      "div",
      { class: "row" },
      note,
      h("button", { type: "button", class: "main", onclick: close("resolved") }, "Dealt with"),
      h("button", { type: "button", class: "plain", onclick: close("dismissed") }, "Nothing to do"),
    ),
    place,
  );
}

async function show(more = false) {
  const order = ++asked;
  if (!session()) {
    list.replaceChildren();
    $("#state").replaceChildren(h("button", { class: "link", type: "button", onclick: () => ask() }, "Log in"), " as a moderator.");
    return;
  }
  const query = new URLSearchParams({ status: which.value, limit: 20 });
  if (more && cursor) query.set("cursor", cursor);
  try {
    const { data, meta } = await whole("GET", `/admin/reports?${query}`);
    if (order !== asked) return;
    const cards = data.reports.map(card);
    if (more) list.append(...cards);
    else list.replaceChildren(...cards);
    cursor = meta?.next_cursor || "";
    $("#more").hidden = !cursor;
    say($("#state"), list.children.length ? "" : "Nothing waits here.");
  } catch (error) {
    if (order === asked) say($("#state"), sentence(error), true);
  }
}

which.addEventListener("change", () => show());
$("#more").addEventListener("click", () => show(true));
window.addEventListener("veza:session", () => show());
show();
