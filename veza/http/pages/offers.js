// All one's offers, made and got. What happens to them meanwhile shows at once.

import { logInLink } from "./account.js";
import { call, session, whole } from "./api.js";
import { $, say, sentence } from "./dom.js";
import { offerCard } from "./offercard.js";

const PAGE = 20;
const form = $("#which");
const list = $("#offers");
let page = 1;
let asked = 0;

function card(offer) {
  return offerCard(offer, (now) => document.getElementById(`offer-${now.id}`)?.replaceWith(card(now)));
}

async function show(more = false) {
  const order = ++asked;
  if (!session()) {
    list.replaceChildren();
    $("#state").replaceChildren(logInLink(), " to see your offers.");
    return;
  }
  page = more ? page + 1 : 1;
  const query = new URLSearchParams({ type: form.elements.type.value, page, limit: PAGE });
  if (form.elements.status.value) query.set("status", form.elements.status.value);
  try {
    const { data, meta } = await whole("GET", `/offers?${query}`);
    if (order !== asked) return;
    const cards = data.offers.map(card);
    if (more) list.append(...cards);
    else list.replaceChildren(...cards);
    say($("#state"), list.children.length ? "" : "No offers here.");
    $("#more").hidden = page >= meta.total_pages;
  } catch (error) {
    if (order === asked) say($("#state"), sentence(error), true);
  }
}

/** The offer the address names, be it on the first page or not: looking at it tells its maker it was seen. */
async function named() {
  const id = /^#offer-(\d{1,19})$/.exec(location.hash)?.[1];
  return id && session() ? call("GET", `/offers/${id}`) : null;
}

/** All of them, that one above the others; in one go, so that nothing moves under somebody's hand. */
async function begin() {
  const offer = await named().catch(() => null);
  await show();
  if (!offer) return;
  document.getElementById(`offer-${offer.id}`)?.remove();
  list.prepend(card(offer));
  list.firstChild.focus();
}

window.addEventListener("veza:notification", async ({ detail }) => {
  if (detail.kind !== "offer") return;
  const now = await call("GET", `/offers/${Number(detail.offer_id)}`).catch(() => null);
  const shown = document.getElementById(`offer-${Number(detail.offer_id)}`);
  if (!now) return;
  // Only this one: in another somebody may be writing.
  if (shown) shown.replaceWith(card(now));
  else if (!form.elements.status.value) list.prepend(card(now));
});
form.addEventListener("change", () => show());
$("#more").addEventListener("click", () => show(true));
window.addEventListener("hashchange", begin);
window.addEventListener("veza:session", begin);
begin();
