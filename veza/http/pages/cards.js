// How tracks, streams, listings, rooms and people look in lists.

import { clock, count, h, when } from "./dom.js";
import { money } from "./money.js";

export const STATES = { new: "new", like_new: "like new", good: "good", fair: "fair", poor: "poor" };

function card(href, ...children) {
  return h("li", {}, h("a", { class: "card", href }, ...children));
}

const small = (...parts) => h("span", { class: "small" }, parts.filter(Boolean).join(" · "));

export function trackCard(track) {
  const about =
    track.status === "failed"
      ? "could not be processed"
      : track.status && track.status !== "ready"
        ? "being processed"
        : null;
  // A private track's cover takes a login, which an <img> cannot say.
  const cover =
    track.has_cover && track.is_public
      ? h("img", { class: "cover", src: `/api/v1/tracks/${track.id}/cover`, alt: "", loading: "lazy" })
      : null;
  return card(
    `/tracks/${track.id}`,
    h("span", { class: "headline" }, cover, h("b", {}, track.title)),
    h("span", {}, track.artist || track.owner?.username || track.username || ""),
    about
      ? small(about)
      : small(
          track.duration_ms ? clock(track.duration_ms / 1000) : "",
          track.play_count === undefined ? "" : count(track.play_count, "play"),
          track.like_count === undefined ? "" : count(track.like_count, "like"),
        ),
  );
}

export function streamCard(stream) {
  return card(
    `/s/${stream.slug}`,
    h("span", {}, h("span", { class: "badge", "data-state": "live" }, "live")),
    h("b", {}, stream.title),
    h("span", {}, stream.song || stream.owner?.username || ""),
    small(stream.category, count(stream.listeners, "listener")),
  );
}

/** What one wants for it, in a few words. */
export function wanted(listing) {
  const price = money(listing.price_cents, listing.currency);
  return [price, listing.exchange_for && (price ? "or exchange" : "exchange")].filter(Boolean).join(" ");
}

export function listingCard(listing) {
  const source = listing.images?.[0]?.thumb_url ?? listing.thumb_url;
  return card(
    `/market/${listing.id}`,
    h("span", { class: "picture" }, source ? h("img", { src: source, alt: "", loading: "lazy" }) : null),
    h("b", {}, listing.title),
    h("span", { class: "price" }, wanted(listing)),
    small(
      listing.status === "sold" ? "sold" : listing.status === "closed" ? "not for sale now" : "",
      STATES[listing.state],
      listing.location,
      listing.owner?.username,
    ),
  );
}

/** A stream's room is named after it, and is read beside it. */
const streamOf = ({ name, description }) =>
  description === "The chat of a live stream." ? /^stream-([a-z0-9-]{1,43})$/.exec(name)?.[1] : null;

export function roomCard(room) {
  const last = room.last_message;
  const slug = streamOf(room);
  return card(
    slug ? `/s/${slug}` : `/rooms/${room.id}`,
    h("b", {}, slug ? `on air: ${slug.replace(/-[a-z0-9]{10}$/, "").replaceAll("-", " ")}` : room.name),
    last
      ? h("span", { class: "line" }, `${last.username || "somebody"}: ${last.content || "…"}`)
      : h("span", {}, room.description || ""),
    small(
      last ? when(last.created_at) : last === null ? "quiet so far" : count(room.member_count, "member"),
      room.online === undefined ? "" : `${room.online} here`,
      room.unread ? `${room.unread} unread` : "",
    ),
  );
}

/** Somebody's picture; initials where he has none. */
export function face(person, size = 64) {
  // Only pictures of ours: an address elsewhere would be stopped by the content policy.
  const source = person.avatar?.startsWith("/api/v1/users/")
    ? `${person.avatar}&size=${size}`
    : `/api/v1/users/${person.id ?? person.user_id}/avatar?size=${size}`;
  return h("img", { class: "face", src: source, alt: "", loading: "lazy", width: 32, height: 32 });
}

export function personCard(person) {
  const name = [person.first_name, person.last_name].filter(Boolean).join(" ");
  return card(
    `/people/${person.id}`,
    h("span", { class: "headline" }, face(person), h("b", {}, person.username)),
    small(name),
  );
}
