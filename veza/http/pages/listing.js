// What is offered: pictures, words, a price. Others make an offer here; its owner answers them.

import { ask, logInLink } from "./account.js";
import { call, session, whole } from "./api.js";
import { STATES, wanted } from "./cards.js";
import { $, count, h, say, sentence, sure, when } from "./dom.js";
import { gallery } from "./gallery.js";
import { offerCard } from "./offercard.js";
import { reportButton } from "./report.js";
import { termsForm } from "./terms.js";

const id = Number(location.pathname.split("/")[2]);
const STATUS = { open: "for sale", sold: "sold", closed: "not for sale now", removed: "gone" };
let listing;
let asked = 0; // an answer that others have overtaken is shown no more

const owns = () => session()?.user?.id === listing.owner.id;

function show() {
  document.title = $("#title").textContent = listing.title;
  $("#badge").textContent = STATUS[listing.status];
  $("#badge").dataset.state = listing.status;
  $("#price").textContent = wanted(listing) + (listing.exchange_for ? `: ${listing.exchange_for}` : "");
  const about = [listing.category_name, STATES[listing.state], listing.location, when(listing.created_at)];
  $("#about").textContent = about.filter(Boolean).join(" · ");
  $("#description").textContent = listing.description;
  $("#owner").textContent = listing.owner.username;
  $("#owner").href = `/people/${listing.owner.id}`;
  $("#favorite").textContent = `${listing.is_favorite ? "♥" : "♡"} ${count(listing.favorite_count, "favourite")}`;
  $("#favorite").setAttribute("aria-pressed", String(Boolean(listing.is_favorite)));
  $("#own").hidden = !owns() || !["open", "closed"].includes(listing.status);
  $("#report").hidden = owns();
  $("#edit").href = `/market/${id}/edit`;
  $("#close").textContent = listing.status === "closed" ? "Offer it again" : "Take it off the market";
  $("#listing").hidden = false;
}

/** What one can do about it: the owner sees the offers, others make one or see the one they made. */
async function trade(order) {
  const [place, title] = [$("#offers"), $("#trade-title")];
  $("#trade").hidden = false;
  if (owns()) {
    const { data } = await whole("GET", `/listings/${id}/offers?limit=100`);
    if (order !== asked) return;
    title.textContent = data.offers.length ? count(data.offers.length, "offer") : "No offers yet";
    place.replaceChildren(h("ul", { class: "plain-list" }, ...data.offers.map((each) => offerCard(each, begin))));
    return;
  }
  const { data } = session() ? await whole("GET", "/offers?type=sent&limit=100") : { data: { offers: [] } };
  if (order !== asked) return;
  const mine = data.offers.filter((each) => each.listing.id === id);
  const open = mine.some((each) => ["pending", "countered"].includes(each.status));
  title.textContent = open
    ? "Your offer"
    : listing.status === "open"
      ? "Make an offer"
      : `This is ${STATUS[listing.status]}`;
  place.replaceChildren(h("ul", { class: "plain-list" }, ...mine.map((each) => offerCard(each, begin))));
  if (listing.status !== "open" || open) return;
  if (!session()) {
    place.append(
      h("p", {}, logInLink(), " to make an offer."),
    );
    return;
  }
  const send = (json) => call("POST", `/listings/${id}/offers`, { json }).then(begin);
  const how = { currency: listing.currency, lasting: true, label: "Make the offer" };
  place.prepend(termsForm(session().user.id, send, how));
}

async function begin() {
  const order = ++asked;
  try {
    const found = await call("GET", `/listings/${id}`);
    if (order !== asked) return;
    listing = found;
    show();
    gallery($("#pictures"), listing);
    await trade(order);
    if (order === asked) say($("#state"), "");
  } catch (error) {
    if (order !== asked) return;
    if (listing) return say($("#state"), sentence(error), true);
    $("#missing").textContent = sentence(error);
    $("#missing").hidden = false;
  }
}

async function change(work) {
  try {
    await work();
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
}

$("#favorite").addEventListener("click", () =>
  change(async () => {
    if (!session()) return ask();
    Object.assign(listing, await call(listing.is_favorite ? "DELETE" : "PUT", `/listings/${id}/favorite`));
    show();
  }),
);
$("#close").addEventListener("click", () =>
  change(async () => {
    await call("PUT", `/listings/${id}`, { json: { status: listing.status === "closed" ? "open" : "closed" } });
    await begin();
  }),
);
$("#delete").addEventListener("click", () =>
  change(async () => {
    if (!(await sure(`Delete “${listing.title}” for good? Open offers for it are turned down.`, "Delete"))) return;
    await call("DELETE", `/listings/${id}`);
    location.href = "/market";
  }),
);
$("#report").append(reportButton("listing", id));
/** Whether somebody is in the middle of an offer, which showing the news would take away from under him. */
function writing() {
  return [...$("#offers").querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue);
}

window.addEventListener("veza:notification", ({ detail }) => {
  if (detail.kind !== "offer" || detail.listing_id !== id) return;
  if (!writing()) return begin();
  $("#state").replaceChildren(
    "There is news about the offers. ",
    h("button", { class: "link", type: "button", onclick: begin }, "Show it"),
  );
});
window.addEventListener("veza:session", begin);
begin();
