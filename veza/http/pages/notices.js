// What a notification says, and where it leads. Names and titles are others' texts: they only ever become text nodes.

import { h } from "./dom.js";
import { call } from "./api.js";

const title = (notice) => h("cite", {}, notice.title || "something");

const OFFERS = {
  received: "made you an offer for",
  countered: "made a counter-offer for",
  accepted: "accepted the offer for",
  rejected: "turned the offer down for",
  withdrawn: "took the offer back for",
};
const REASONS = { sold: "it is sold", closed: "it is not for sale any more", account_deleted: "the account is gone" };
const MODERATION = {
  warning: "The moderators warn you",
  mute: "You may not write for a while",
  unmute: "You may write again",
  ban: "You are banned",
  unban: "You are not banned any more",
  removed: "The moderators removed something of yours",
  report_handled: "What you reported was looked at",
};

function offer(notice) {
  if (notice.step === "expired") return ["The time is up for the offer for ", title(notice)];
  const why = REASONS[notice.reason];
  return [` ${OFFERS[notice.step] || "did something with the offer for"} `, title(notice), why ? ` (${why})` : ""];
}

function moderation(notice) {
  const until = notice.until ? ` until ${new Date(notice.until).toLocaleString()}` : "";
  return [
    `${MODERATION[notice.action] || "The moderators decided"}${until}`,
    notice.reason ? `: ${notice.reason}` : ".",
  ];
}

// kind → [what it says behind the name, where it leads]
const KINDS = {
  mention: (n) => [[" mentioned you in ", label(n)], place(n)],
  reply: (n) => [[" answered you in ", label(n)], place(n)],
  direct_message: (n) => [[" wrote to you"], `/messages/${n.user_id}`],
  follow: (n) => [[" follows you"], `/people/${n.user_id}`],
  like: (n) => [[" likes ", title(n)], `/tracks/${n.track_id}`],
  repost: (n) => [[" passed on ", title(n)], `/tracks/${n.track_id}`],
  comment: (n) => [[" said something about ", title(n)], `/tracks/${n.track_id}`],
  offer: (n) => [offer(n), `/offers#offer-${n.offer_id}`],
  listing: (n) => [[" offers ", title(n)], `/market/${n.listing_id}`],
  stream_started: (n) => [[" is on air: ", title(n)], `/s/${n.slug}`],
  track_ready: (n) => [
    n.status === "failed" ? [title(n), " could not be processed"] : [title(n), " can be heard"],
    `/tracks/${n.track_id}`,
  ],
  moderation: (n) => [moderation(n), "/notifications"],
};

// Only public rooms have a name that everybody knows.
const label = (notice) => (typeof notice.room === "string" ? notice.room : "a conversation");
const place = (notice) => `/rooms/${notice.room_id}`;

/** {parts, href}: `parts` are texts and elements. */
export function describe(notice) {
  const known = KINDS[notice.kind];
  if (!known) return { parts: [notice.kind], href: "/notifications" };
  const [parts, href] = known(notice);
  const nobody = ["track_ready", "moderation"].includes(notice.kind) || notice.step === "expired";
  return { parts: nobody ? parts : [h("b", {}, notice.username || "Somebody"), ...parts], href };
}

/** A line of it, which leads there and counts as read once followed. */
export function noticeLink(notice) {
  const { parts, href } = describe(notice);
  return h(
    "a",
    {
      class: "notice",
      href,
      "data-id": notice.id,
      "data-unread": notice.read_at ? null : "",
      onclick: () => notice.read_at || markRead(notice.id, true).catch(() => null),
    },
    h("span", {}, ...parts),
    notice.excerpt ? h("span", { class: "small excerpt" }, notice.excerpt) : null,
  );
}

export const markRead = (id, keepalive = false) => call("PUT", `/notifications/${id}/read`, { keepalive });
export const markAllRead = () => call("POST", "/notifications/read-all");
