// The moderators' queue: what was reported, and what is decided about it. Looking closer at a report is written down, so
// it is asked for only by a click.

import { logInLink } from "./account.js";
import { call, session, whole } from "./api.js";
import { $, count, h, onSubmit, say, sentence, when } from "./dom.js";
import { TARGETS, VERDICTS, decide, linkTo } from "./verdicts.js";

const list = $("#reports");
const which = $("#which").elements.status;
let cursor = "";
let asked = 0;

/** What the thing said when it was reported. */
function said({ snapshot }) {
  const texts = ["title", "name", "content", "description", "bio"].map((name) => snapshot?.[name]).filter(Boolean);
  return texts.length ? h("blockquote", {}, texts.join("\n")) : null;
}

function closer(report, place) {
  return async (event) => {
    event.target.disabled = true;
    try {
      const { others, context } = await call("GET", `/admin/reports/${report.id}`);
      const line = (each) =>
        h(
          "li",
          { class: each.reported ? "reported" : "" },
          h("b", {}, each.username || "somebody"),
          " ",
          h("span", {}, each.content ?? "(deleted)"),
        );
      event.target.after(
        context.length
          ? h("ol", { class: "plain-list context", "aria-label": "What was said around it" }, ...context.map(line))
          : "",
        ...others.map((each) =>
          h("p", { class: "small" }, `${each.reporter || "Somebody"}, too (${each.category}): ${each.reason}`),
        ),
        context.length || others.length ? "" : h("p", { class: "small" }, "There is nothing more to see."),
      );
      event.target.remove();
    } catch (error) {
      event.target.disabled = false;
      say(place, sentence(error), true);
    }
  };
}

function verdictForm(report) {
  const choices = VERDICTS.filter(({ fits }) => !fits || fits(report));
  const form = h(
    "form",
    { class: "verdict" },
    h(
      "label",
      {},
      "What is done",
      h("select", { name: "verdict" }, ...choices.map(({ id, text }) => h("option", { value: id }, text))),
    ),
    h(
      "label",
      {},
      "Reason, which the person reads",
      h("input", { name: "reason", maxLength: 500, autocomplete: "off" }),
    ),
    report.open_on_target > 1
      ? h(
          "label",
          { class: "check" },
          h("input", { type: "checkbox", name: "others", checked: true }),
          ` The same for all ${report.open_on_target} about it`,
        )
      : null,
    h("output", { role: "alert" }),
    h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, "Decide")),
  );
  onSubmit(form, async (fields) => {
    await decide(report, fields.get("verdict"), fields.get("reason").trim(), Boolean(fields.get("others")));
    await show();
  });
  return form;
}

function card(report) {
  const place = h("output", { role: "status" });
  const href = linkTo(report);
  const what = `${TARGETS[report.target_type] || report.target_type}${report.accused ? ` of ${report.accused}` : ""}`;
  return h(
    "li",
    { class: "card report", id: `report-${report.id}` },
    h(
      "div",
      { class: "row spread" },
      h("b", {}, href ? h("a", { href }, what) : what),
      h("span", { class: "badge" }, report.category),
    ),
    said(report),
    h("p", {}, `“${report.reason}”`),
    h(
      "p",
      { class: "small" },
      [
        report.reporter || "somebody",
        when(report.created_at),
        report.on_target > 1 ? count(report.on_target, "report") + " about it" : "",
      ]
        .filter(Boolean)
        .join(" · "),
    ),
    h("button", { class: "link closer", type: "button", onclick: closer(report, place) }, "Look closer"),
    report.status === "open"
      ? verdictForm(report)
      : h(
          "p",
          { class: "small" },
          [`${report.status} by ${report.handler || "somebody"}`, report.outcome, report.note]
            .filter(Boolean)
            .join(" · "),
        ),
    place,
  );
}

async function show(more = false) {
  const order = ++asked;
  if (!session()) {
    list.replaceChildren();
    $("#state").replaceChildren(logInLink(), " as a moderator.");
    return;
  }
  const query = new URLSearchParams({
    status: which.value,
    limit: 20,
    sort: which.value === "open" ? "oldest" : "newest",
  });
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
