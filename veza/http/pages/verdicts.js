// What a moderator can do about a report: first the act itself, then the report is closed with what came of it.

import { call } from "./api.js";

export const TARGETS = {
  message: "Message",
  user: "Person",
  room: "Room",
  track: "Track",
  comment: "Comment",
  listing: "Listing",
  stream: "Stream",
};

const DAY = 24 * 3600; // seconds

/** The page of what was reported, where it has one. */
export function linkTo({ target_type, target_id, snapshot, room_id }) {
  const pages = {
    user: `/people/${target_id}`,
    room: `/rooms/${target_id}`,
    track: `/tracks/${target_id}`,
    listing: `/market/${target_id}`,
    stream: snapshot?.slug ? `/s/${snapshot.slug}` : null,
    comment: snapshot?.track_id ? `/tracks/${snapshot.track_id}` : null,
    message: room_id && snapshot?.room_kind === "public" ? `/rooms/${room_id}` : null,
  };
  return pages[target_type];
}

const impose = (report, kind, reason, duration) =>
  call("POST", `/moderation/users/${report.accused_id}/sanctions`, {
    json: { kind, reason: reason || null, report_id: report.id, ...(duration ? { duration } : {}) },
  });
const remove = (report, what, reason) =>
  call("POST", "/moderation/remove", {
    json: { target_type: what, target_id: report.target_id, reason: reason || null, report_id: report.id },
  });
const somebody = (report) => Boolean(report.accused_id);
const person = (report) => report.target_type === "user";
const thing = (report) => ["message", "track", "comment", "listing", "stream"].includes(report.target_type);

/** `fits`: whether it can be done about a report. `outcome`: what the report is closed with. */
export const VERDICTS = [
  { id: "none", text: "nothing: there is nothing to it", status: "dismissed", outcome: "none" },
  {
    id: "removed",
    text: "take it away",
    outcome: "removed",
    fits: thing,
    act: (r, why) => remove(r, r.target_type, why),
  },
  {
    id: "avatar",
    text: "take the picture away",
    outcome: "removed",
    fits: person,
    act: (r, why) => remove(r, "avatar", why),
  },
  { id: "bio", text: "take the text away", outcome: "removed", fits: person, act: (r, why) => remove(r, "bio", why) },
  {
    id: "warned",
    text: "warn the person",
    outcome: "warned",
    fits: somebody,
    act: (r, why) => impose(r, "warning", why),
  },
  { id: "day", text: "mute for a day", outcome: "muted", fits: somebody, act: (r, why) => impose(r, "mute", why, DAY) },
  {
    id: "week",
    text: "mute for a week",
    outcome: "muted",
    fits: somebody,
    act: (r, why) => impose(r, "mute", why, 7 * DAY),
  },
  {
    id: "banned",
    text: "ban for 30 days",
    outcome: "banned",
    fits: somebody,
    act: (r, why) => impose(r, "ban", why, 30 * DAY),
  },
  { id: "gone", text: "ban for good", outcome: "banned", fits: somebody, act: (r, why) => impose(r, "ban", why) },
];

/** Do it, and close the report. Throws what the server refuses. */
export async function decide(report, id, reason, others) {
  const { act, outcome, status = "resolved" } = VERDICTS.find((each) => each.id === id);
  await act?.(report, reason);
  await call("PUT", `/admin/reports/${report.id}`, { json: { status, outcome, note: reason || null, others } });
}
