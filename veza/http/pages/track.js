// A track's page: its waveform is the player's slider, what was said stands where it was said.

import "./account.js";
import { call, send, session } from "./api.js";
import { $, clock, count, h, onSubmit, say, sentence } from "./dom.js";
import { playHls } from "./hls.js";
import { reportButton } from "./report.js";
import { Waveform } from "./waveform.js";

const id = Number(location.pathname.split("/")[2]);
const REPORT = 15; // seconds heard between two reports
let track;
let media;
let stopHls = null;
let loaded = null; // which way the element was filled
let heard = 0;
let last = null;
let renewals = 0;

const waveform = new Waveform($("#waveform"), (seconds) => {
  if (!loaded) load(seconds).catch(() => null);
  else media.currentTime = seconds;
  waveform.at(seconds);
});

function showState() {
  const playing = !media.paused && !media.ended;
  $("#play").setAttribute("aria-pressed", String(playing));
  $("#play").setAttribute("aria-label", playing ? "Pause" : "Play");
}

/** Give the element its source, and go on where it stood. */
async function load(at = 0) {
  loaded = $("#via").value;
  stopHls?.();
  stopHls = null;
  try {
    const urls = await call("GET", `/tracks/${id}/stream`);
    if (loaded === "hls" && urls.hls_url) stopHls = await playHls(media, urls.hls_url, failed);
    else media.src = urls.url;
    if (at) media.currentTime = at;
    say($("#state"), "");
  } catch (error) {
    loaded = null;
    say($("#state"), sentence(error), true);
    throw error;
  }
}

/** An address runs out after some hours, and a line breaks: with a new one it goes on. */
async function failed() {
  if (!loaded) return;
  const [at, playing] = [media.currentTime, !media.paused];
  if (renewals++ < 3) {
    await load(at).catch(() => null);
    if (playing) await media.play().catch(() => null);
  } else say($("#state"), "This browser cannot play it.", true);
}

async function play() {
  if (!media.paused) return media.pause();
  if (!loaded) await load();
  try {
    await media.play();
  } catch (error) {
    if (error.name !== "AbortError") say($("#state"), sentence(error), true);
  }
}

/** Count what is really heard: jumps are not. */
function listen() {
  const now = media.currentTime;
  if (last !== null && now > last && now - last < 2) heard += now - last;
  last = now;
  if (heard >= REPORT) report();
}

function report(completed = false, keepalive = false) {
  if (heard < 1 && !completed) return;
  const json = { listened_s: Math.round(heard * 10) / 10, completed };
  heard = 0;
  call("POST", `/tracks/${id}/play`, { json, keepalive }).catch(() => null);
}

function wire() {
  media.addEventListener("timeupdate", () => {
    listen();
    waveform.at(media.currentTime, Number.isFinite(media.duration) ? media.duration : undefined);
    $("#now").textContent = $("#moment").textContent = clock(media.currentTime);
  });
  media.addEventListener("durationchange", () => {
    if (Number.isFinite(media.duration)) $("#length").textContent = clock(media.duration);
  });
  for (const each of ["play", "pause", "ended"]) media.addEventListener(each, showState);
  media.addEventListener("playing", () => (renewals = 0));
  media.addEventListener("seeking", () => (last = null));
  media.addEventListener("pause", () => report());
  media.addEventListener("ended", () => report(true));
  media.addEventListener("error", () => !stopHls && failed());
  window.addEventListener("pagehide", () => report(false, true));
  $("#play").addEventListener("click", play);
  $("#volume").addEventListener("input", (event) => (media.volume = event.target.value));
  $("#via").addEventListener("change", async () => {
    if (!loaded) return;
    const [at, playing] = [media.currentTime, !media.paused];
    await load(at).catch(() => null);
    if (playing) media.play().catch(() => null);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target === document.body) {
      event.preventDefault();
      play();
    }
  });
  showState();
}

/** The file itself where this browser plays it and it is not huge for what it says; else HLS. */
function choose() {
  const asked = new URLSearchParams(location.search).get("via");
  const plays = media.canPlayType(track.content_type || "") !== "";
  const large = track.lossless || track.kind === "video" || navigator.connection?.saveData;
  const via = asked === "hls" || asked === "file" ? asked : plays && !large ? "file" : "hls";
  $("#via").value = track.has_hls ? via : "file";
  $("#via").parentElement.hidden = !track.has_hls;
}

async function showCover() {
  if (!track.has_cover) return;
  const answer = await send("GET", `/tracks/${id}/cover`); // with who one is, which an <img> cannot say
  if (!answer.ok) return;
  $("#cover").src = URL.createObjectURL(await answer.blob());
  $("#cover").hidden = false;
}

function showLike() {
  const like = $("#like");
  like.setAttribute("aria-pressed", String(track.liked));
  like.textContent = `${track.liked ? "♥" : "♡"} ${count(track.like_count, "like")}`;
  like.disabled = !session();
}

$("#like").addEventListener("click", async () => {
  try {
    Object.assign(track, await call(track.liked ? "DELETE" : "PUT", `/tracks/${id}/like`));
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
  showLike();
});

async function showComments() {
  const comments = [];
  let cursor = "";
  do {
    const query = `?sort=time&limit=100${cursor && `&cursor=${encodeURIComponent(cursor)}`}`;
    const answer = await send("GET", `/tracks/${id}/comments${query}`);
    const { data, meta } = await answer.json();
    comments.push(...(data?.comments || []));
    cursor = meta?.next_cursor || "";
  } while (cursor && comments.length < 1000);
  waveform.mark(comments);
  $("#comments").replaceChildren(
    ...comments.map((comment) =>
      h(
        "li",
        {},
        h(
          "button",
          { class: "link", type: "button", onclick: () => waveform.seek(comment.at_ms / 1000) },
          clock(comment.at_ms / 1000),
        ),
        " ",
        h("b", {}, comment.user?.username || "somebody"),
        " ",
        h("span", {}, comment.content),
      ),
    ),
  );
}

onSubmit($("#comment"), async (fields, form) => {
  const json = { content: fields.get("content").trim(), at_ms: Math.floor((media?.currentTime || 0) * 1000) };
  await call("POST", `/tracks/${id}/comments`, { json });
  form.reset();
  await showComments();
});

function about() {
  const parts = [track.album, track.genre, count(track.play_count, "play")];
  if (track.codec) parts.push(track.codec.toUpperCase(), track.lossless ? "lossless" : null);
  return [...parts, ...(track.tags || []).map((tag) => `#${tag}`)].filter(Boolean).join(" · ");
}

async function begin() {
  try {
    track = await call("GET", `/tracks/${id}`);
  } catch (error) {
    $("#missing").textContent = sentence(error);
    $("#missing").hidden = false;
    return;
  }
  document.title = track.artist ? `${track.title} – ${track.artist}` : track.title;
  $("#title").textContent = track.title;
  $("#artist").textContent = track.artist || track.owner?.username || "";
  $("#about").textContent = about();
  $("#length").textContent = clock(track.duration_ms / 1000);
  $("#player").hidden = $("#talk").hidden = false;
  if (track.status === "failed") return say($("#state"), track.failure || "It could not be processed.", true);
  if (track.status !== "ready") {
    say($("#state"), "This track is being processed…");
    setTimeout(begin, 2000);
    return;
  }
  say($("#state"), "");
  const picture = track.kind === "video";
  media = $(picture ? "#video" : "#audio");
  $("#video").hidden = !picture;
  choose();
  wire();
  showLike();
  window.addEventListener("veza:session", showLike);
  if (track.owner?.id !== session()?.user?.id) $("#report").append(reportButton("track", id));
  showCover().catch(() => null);
  showComments().catch(() => null);
  const peaks = await call("GET", `/tracks/${id}/peaks`).catch(() => null);
  waveform.load(peaks, track.duration_ms / 1000);
}

begin();
