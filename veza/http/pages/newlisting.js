// Offering something, and changing what is offered: /market/new and /market/{id}/edit. The words go first, then the
// pictures; where one of those is refused, the listing stands, and the others can be tried again.

import { ask } from "./account.js";
import { call, session, upload } from "./api.js";
import { categories } from "./categories.js";
import { $, h, onSubmit, sentence } from "./dom.js";
import { CURRENCIES, amount, cents } from "./money.js";
import { Previews } from "./previews.js";

const form = $("#form");
const WORDS = ["title", "category", "state", "currency", "exchange_for", "location", "description"];
let id = Number(/^\/market\/(\d+)\/edit$/.exec(location.pathname)?.[1]) || null;
let ready = false;

const previews = new Previews($("#previews"), $("#files"), (n) => call("DELETE", `/listings/${id}/images/${n}`));

function body(fields) {
  const json = { price_cents: cents(fields.get("price"), fields.get("currency")) };
  for (const name of WORDS) json[name] = fields.get(name).trim();
  for (const name of ["exchange_for", "location"]) json[name] ||= null;
  if (json.price_cents === null && !json.exchange_for)
    throw new Error("Say a price, what you would take in exchange, or both.");
  return json;
}

onSubmit(form, async (fields) => {
  const listing = await call(id ? "PUT" : "POST", id ? `/listings/${id}` : "/listings", { json: body(fields) });
  if (!id) {
    id = listing.id;
    history.replaceState(null, "", `/market/${id}/edit`); // a second try changes this one
  }
  const well = await previews.sendAll((file, progress) => {
    const part = new FormData();
    part.append("image", file);
    return upload(`/listings/${id}/images`, part, progress);
  });
  if (!well)
    throw new Error("The listing is stored, but not all of its pictures: take out what is refused, or try again.");
  location.href = `/market/${id}`;
});

function changing() {
  document.title = form.querySelector("h1").textContent = "Change what you offer";
  form.querySelector("button.main").textContent = "Save";
}

async function begin() {
  $("#missing").hidden = Boolean(session());
  $("#missing").textContent = "Log in to offer something.";
  form.hidden = !session();
  if (!session()) return ask();
  if (ready) return;
  ready = true;
  try {
    form.elements.category.append(...(await categories()));
    const listing = id && (await call("GET", `/listings/${id}`));
    const known = new Set([...CURRENCIES, listing?.currency || "EUR"]);
    form.elements.currency.append(...[...known].map((each) => h("option", {}, each)));
    if (!id) return;
    for (const name of WORDS) form.elements[name].value = listing[name] ?? "";
    form.elements.price.value = amount(listing.price_cents, listing.currency);
    listing.images.forEach((image) => previews.stored(image));
    changing();
  } catch (error) {
    form.hidden = true;
    $("#missing").textContent = sentence(error);
    $("#missing").hidden = false;
  }
}

window.addEventListener("veza:session", begin);
begin();
