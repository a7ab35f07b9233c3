// Telling the moderators that something is wrong.

import { ask } from "./account.js";
import { call, session } from "./api.js";
import { h, onSubmit, say } from "./dom.js";

const CATEGORIES = {
  spam: "spam",
  fraud: "fraud",
  harassment: "harassment",
  hate: "hate",
  violence: "violence",
  sexual: "sexual content",
  copyright: "somebody else’s work",
  other: "something else",
};

/** A button that opens the form. What is reported: `target_type` and `target_id` as the API names them. */
export function reportButton(target_type, target_id) {
  return h(
    "button",
    { class: "link small", type: "button", onclick: () => (session() ? open(target_type, target_id) : ask()) },
    "Report",
  );
}

function open(target_type, target_id) {
  const options = Object.entries(CATEGORIES).map(([value, text]) =>
    h("option", { value, selected: value === "other" }, text),
  );
  const form = h(
    "form",
    {},
    h("h2", {}, "Tell the moderators"),
    h("label", {}, "It is", h("select", { name: "category" }, ...options)),
    h("label", {}, "What is wrong", h("textarea", { name: "reason", required: true, maxLength: 1000, rows: 4 })),
    h("output", { role: "alert" }),
    h(
      "div",
      { class: "row" },
      h("button", { class: "main", type: "submit" }, "Send"),
      h("button", { class: "plain", type: "button", onclick: () => dialog.close() }, "Cancel"),
    ),
  );
  const dialog = h("dialog", { class: "card", "aria-label": "Report", onclose: () => dialog.remove() }, form);
  onSubmit(form, async (fields) => {
    const json = { target_type, target_id, category: fields.get("category"), reason: fields.get("reason").trim() };
    await call("POST", "/reports", { json });
    const thanks = h("output", { role: "status" });
    form.replaceChildren(
      thanks,
      h("button", { class: "plain", type: "button", onclick: () => dialog.close() }, "Close"),
    );
    say(thanks, "Thank you; the moderators will look at it.");
  });
  document.body.append(dialog);
  dialog.showModal();
}
