// The market: what is offered, by what one looks for. The address keeps the filters, so that it can be passed on and
// the browser's way back works.

import { session, whole } from "./api.js";
import { listingCard } from "./cards.js";
import { categories } from "./categories.js";
import { $, count, h, say, sentence } from "./dom.js";
import { CURRENCIES, cents } from "./money.js";

const PAGE = 24;
const SORTS = {
  newest: "newest",
  oldest: "oldest",
  price_asc: "cheapest first",
  price_desc: "dearest first",
  popular: "most wanted",
};
const FIELDS = ["search", "category", "state", "min", "max", "currency", "sort", "whose"];
const form = $("#filters");
let asked = 0;

/** What the address says, in the form. */
function read() {
  const query = new URLSearchParams(location.search);
  for (const name of FIELDS) form.elements[name].value = query.get(name) ?? (name === "sort" ? "newest" : "");
  return Math.max(1, Number.parseInt(query.get("page"), 10) || 1);
}

/** The form as an address; what stands at its default is left out. */
function address(page) {
  const query = new URLSearchParams();
  for (const name of FIELDS) {
    const value = form.elements[name].value.trim();
    if (value && !(name === "sort" && value === "newest")) query.set(name, value);
  }
  if (page > 1) query.set("page", page);
  return `/market${query.size ? `?${query}` : ""}`;
}

/** The same as the server wants it. What one has marked is one list, in the order it was marked. */
function wanted(page) {
  const value = (name) => form.elements[name].value.trim();
  if (value("whose") === "favorites") return "/users/me/favorites?limit=100";
  const query = new URLSearchParams({ sort: value("sort") || "newest", page, limit: PAGE });
  for (const name of ["search", "category", "state", "currency"]) if (value(name)) query.set(name, value(name));
  for (const name of ["min", "max"])
    if (value(name)) query.set(`${name}_price`, cents(value(name), value("currency") || "EUR"));
  if (value("whose") === "mine" && session()) {
    query.set("user_id", session().user.id);
    query.set("status", "all");
  }
  return `/listings?${query}`;
}

async function show(page) {
  const order = ++asked;
  let found;
  try {
    found = await whole("GET", wanted(page));
  } catch (error) {
    if (order === asked) say($("#state"), sentence(error), true);
    return;
  }
  if (order !== asked) return; // something else is looked for meanwhile
  const { data, meta } = found;
  const total = meta.total ?? data.listings.length;
  say($("#state"), total ? count(total, "thing") : "Nothing like that is offered now.");
  for (const name of FIELDS)
    form.elements[name].disabled = name !== "whose" && form.elements.whose.value === "favorites";
  $("#listings").replaceChildren(...data.listings.map(listingCard));
  for (const [id, to, there] of [
    ["#before", page - 1, page > 1],
    ["#after", page + 1, page < meta.total_pages],
  ]) {
    $(id).hidden = !there;
    $(id).href = address(to);
  }
  $("#page").textContent = meta.total_pages > 1 ? `page ${page} of ${meta.total_pages}` : "";
}

let typing;
function changed() {
  history.replaceState(null, "", address(1));
  show(1);
}
form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(changed, 250);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  changed();
});
for (const link of [$("#before"), $("#after")]) {
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    show(read()).then(() => $("main").focus());
  });
}
window.addEventListener("popstate", () => show(read()));
window.addEventListener("veza:session", () => show(read()));

form.elements.currency.append(...CURRENCIES.map((each) => h("option", {}, each)));
form.elements.sort.append(...Object.entries(SORTS).map(([value, text]) => h("option", { value }, text)));
categories()
  .then((options) => form.elements.category.append(...options))
  .catch((error) => say($("#state"), sentence(error), true))
  .finally(() => show(read()));
