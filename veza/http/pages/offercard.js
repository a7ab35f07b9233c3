// An offer as both sides see it: what is given for what, how it stands, and what the one who looks can do about it.

import { call, session } from "./api.js";
import { h, say, sentence, sure, when } from "./dom.js";
import { money } from "./money.js";
import { inWords, termsForm } from "./terms.js";

const STATES = {
  pending: "waiting for an answer",
  countered: "countered",
  accepted: "accepted",
  rejected: "turned down",
  withdrawn: "taken back",
  expired: "expired",
};

function person(who) {
  return who ? h("a", { href: `/people/${who.id}` }, who.username) : "somebody";
}

function terms(offer) {
  const { listing, buyer, counter, currency } = offer;
  const mine = session()?.user?.id;
  const lines = [
    h(
      "p",
      {},
      buyer?.id === mine ? "You offer " : person(buyer),
      buyer?.id === mine ? "" : " offers ",
      ...inWords(offer, currency),
      " for ",
      h("a", { href: `/market/${listing.id}` }, listing.title),
      ".",
    ),
    offer.message ? h("blockquote", {}, offer.message) : null,
  ];
  if (counter)
    lines.push(
      h(
        "p",
        {},
        offer.seller?.id === mine ? "You" : person(offer.seller),
        " would take ",
        ...inWords(counter, currency),
        ".",
      ),
      counter.message ? h("blockquote", {}, counter.message) : null,
    );
  return lines;
}

function about(offer) {
  const parts = [when(offer.created_at)];
  if (["pending", "countered"].includes(offer.status)) {
    if (offer.viewed_at && offer.buyer?.id === session()?.user?.id) parts.push("seen");
    parts.push(
      `holds until ${new Date(offer.expires_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`,
    );
  } else if (offer.decided_at) parts.push(`decided ${when(offer.decided_at)}`);
  return parts.join(" · ");
}

/** An item of a list. `changed` is called with what became of the offer. */
export function offerCard(offer, changed) {
  const mine = session()?.user?.id;
  const [buys, sells] = [offer.buyer?.id === mine, offer.seller?.id === mine];
  const place = h("output", { role: "status" });
  const buttons = h("div", { class: "row" });

  async function step(name, json) {
    for (const each of buttons.children) each.disabled = true;
    try {
      changed(await call("POST", `/offers/${offer.id}/${name}`, { json }));
    } catch (error) {
      say(place, sentence(error), true);
    } finally {
      for (const each of buttons.children) each.disabled = false;
    }
  }

  async function accept() {
    const agreed = offer.counter || offer;
    const price = [money(agreed.amount_cents, offer.currency), agreed.proposed_listing?.title]
      .filter(Boolean)
      .join(" and ");
    const question = `“${offer.listing.title}” for ${price}: agreed? It counts as sold from then on, and all other offers for it are turned down.`;
    if (await sure(question, "Agreed")) await step("accept");
  }

  const button = (text, work, kind = "plain") =>
    buttons.append(h("button", { type: "button", class: kind, onclick: work }, text));
  if (offer.status === "pending" && sells) {
    button("Accept", accept, "main accept");
    button("Counter-offer", (event) => counter(event.target), "plain counter");
    button("Turn down", () => step("reject"), "plain reject");
  } else if (offer.status === "countered" && buys) {
    button("Accept", accept, "main accept");
    button("Turn down", () => step("reject"), "plain reject");
  } else if (offer.status === "pending" && buys) button("Take it back", () => step("withdraw"), "plain withdraw");
  else if (offer.status === "countered" && sells) button("Take it back", () => step("reject"), "plain reject");
  if (buys || sells) {
    const other = buys ? offer.seller : offer.buyer;
    if (other) buttons.append(h("a", { href: `/messages/${other.id}` }, `Write to ${other.username}`));
  }

  function counter(opener) {
    opener.remove();
    const form = termsForm(
      offer.buyer.id,
      (json) => call("POST", `/offers/${offer.id}/counter`, { json }).then(changed),
      {
        currency: offer.currency,
        start: offer,
        label: "Send the counter-offer",
      },
    );
    buttons.after(form);
    form.querySelector("input").focus();
  }

  return h(
    "li",
    { class: "card offer", id: `offer-${offer.id}`, tabIndex: -1 },
    h("span", { class: "badge", "data-state": offer.status }, STATES[offer.status] || offer.status),
    ...terms(offer),
    h("p", { class: "small" }, about(offer)),
    buttons,
    place,
  );
}
