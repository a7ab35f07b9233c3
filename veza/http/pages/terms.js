// What somebody would give: money, one of his things, or both, and a word with it. For offers and counter-offers.

import { call } from "./api.js";
import { h, onSubmit } from "./dom.js";
import { amount, cents, money } from "./money.js";

const LASTING = [
  [24, "a day"],
  [72, "three days"],
  [168, "a week"],
  [720, "30 days"],
];

/** Terms in words: “120 € and Bass”, as nodes. */
export function inWords({ amount_cents, proposed_listing: thing }, currency) {
  const parts = [];
  if (amount_cents !== null && amount_cents !== undefined) parts.push(h("b", {}, money(amount_cents, currency)));
  if (thing) {
    if (parts.length) parts.push(" and ");
    parts.push(h("a", { href: `/market/${thing.id}` }, thing.title));
    if (thing.price_cents !== null && thing.price_cents !== undefined)
      parts.push(` (offered for ${money(thing.price_cents, thing.currency)})`);
  }
  return parts.length ? parts : ["nothing any more: what was to be exchanged is gone"];
}

/**
 * A form for terms. `things`: whose open listings can be given. `send` gets the body; what it refuses stands in the form.
 * Options: `currency`, `start` (terms to begin with), `lasting` (ask how long it holds), `label` (of the button),
 * `except` (a listing that cannot be given).
 */
export function termsForm(things, send, { currency, start = {}, lasting = false, label, except }) {
  const thing = h("select", { name: "proposed_listing_id" }, h("option", { value: "" }, "nothing"));
  const form = h(
    "form",
    { class: "terms" },
    h(
      "label",
      {},
      `Money (${currency})`,
      h("input", {
        name: "amount",
        inputMode: "decimal",
        autocomplete: "off",
        value: amount(start.amount_cents, currency),
      }),
    ),
    h("label", {}, lasting ? "One of my things in exchange" : "A thing in exchange", thing),
    h("label", {}, "A word with it", h("textarea", { name: "message", maxLength: 1000, rows: 3 })),
    lasting
      ? h(
          "label",
          {},
          "It holds for",
          h(
            "select",
            { name: "expires_in_hours" },
            ...LASTING.map(([hours, text]) => h("option", { value: hours, selected: hours === 168 }, text)),
          ),
        )
      : null,
    h("output", { role: "alert" }),
    h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, label)),
  );
  onSubmit(form, async (fields) => {
    const body = { amount_cents: cents(fields.get("amount"), currency) };
    if (fields.get("proposed_listing_id")) body.proposed_listing_id = Number(fields.get("proposed_listing_id"));
    if (body.amount_cents === null && !body.proposed_listing_id) throw new Error("Say what: money, a thing, or both.");
    if (fields.get("message").trim()) body.message = fields.get("message").trim();
    if (lasting) body.expires_in_hours = Number(fields.get("expires_in_hours"));
    await send(body);
  });
  call("GET", `/listings?user_id=${things}&status=open&limit=100`)
    .then(({ listings }) => {
      const choices = listings.filter((each) => each.id !== except);
      thing.append(
        ...choices.map((each) =>
          h("option", { value: each.id, selected: each.id === start.proposed_listing?.id }, each.title),
        ),
      );
    })
    .catch(() => null); // money can be offered all the same
  return form;
}
