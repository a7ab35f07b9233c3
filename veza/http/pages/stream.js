// A stream's page: listening, what plays, who listens, and the chat beside it.

import "./account.js";
import { call, session } from "./api.js";
import { RoomChat, streamRoom } from "./chat.js";
import { $, count, say, sentence } from "./dom.js";
import { playHls } from "./hls.js";

const slug = decodeURIComponent(location.pathname.split("/")[2]);
const LOOK = 10_000; // milliseconds between two looks at the stream, more or less: not all pages at once …
const WAITING = 3000; // … and where somebody waits for it to begin
let stream;
let media;
let wanted = false; // somebody wants to hear it, whether it can be heard just now or not
let stopHls = null;
let timer = null;
let tries = 0;

const onAir = () => stream?.state === "live" || stream?.state === "interrupted";

function showState() {
  $("#play").setAttribute("aria-pressed", String(wanted));
  $("#play").setAttribute("aria-label", wanted ? "Stop" : "Listen");
}

function show() {
  document.title = stream.song ? `${stream.song} – ${stream.title}` : stream.title;
  $("#title").textContent = stream.title;
  $("#owner").textContent = `${stream.owner?.username || ""} · ${stream.category}`;
  $("#description").textContent = stream.description || "";
  $("#song").textContent = stream.song ? `♪ ${stream.song}` : "";
  const words = { created: "not begun", live: "live", interrupted: "a moment, please", ended: "ended" };
  $("#badge").textContent = words[stream.state] || stream.state;
  $("#badge").dataset.state = stream.state;
  $("#listeners").textContent = onAir() ? count(stream.listeners, "listener") : "";
  $("#own").hidden = session()?.user?.id !== stream.owner?.id || stream.state === "ended";
  $("#broadcast").href = `/s/${slug}/broadcast`;
  const picture = (stream.content_type || "").startsWith("video/");
  const element = $(picture ? "#video" : "#audio");
  if (media !== element) {
    if (media) silence();
    media = element;
    $("#video").hidden = !picture;
    choose();
    if (wanted) listen();
  }
}

/** Directly where this browser understands what is sent: that is half a minute nearer than HLS. */
function choose() {
  const asked = new URLSearchParams(location.search).get("via");
  const plays = media.canPlayType((stream.content_type || "").split(";")[0]) !== "";
  $("#via").value = asked === "hls" || asked === "live" ? asked : plays ? "live" : "hls";
}

async function listen() {
  clearTimeout(timer);
  if (!wanted || !onAir()) return;
  silence();
  say($("#state"), "Connecting…");
  try {
    const where = await call("GET", `/streams/${encodeURIComponent(slug)}/listen`);
    if (!wanted) return;
    if ($("#via").value === "hls") stopHls = await playHls(media, where.hls, again);
    else media.src = where.progressive;
    await media.play();
  } catch (error) {
    if (error.name === "NotAllowedError") {
      wanted = false;
      say($("#state"), "Press play: this browser wants to be asked.");
      showState();
    } else if (error.name !== "AbortError") again();
  }
}

/** The line broke, or the source did: a little later, as long as somebody wants to hear it. */
function again() {
  if (!wanted) return;
  silence();
  say($("#state"), onAir() ? "Connecting again…" : "Waiting for the stream…");
  clearTimeout(timer);
  timer = setTimeout(listen, Math.min(1000 * 2 ** tries++, 15_000));
}

/** Stop, and stop loading: a stream that is paused must not go on arriving. */
function silence() {
  stopHls?.();
  stopHls = null;
  if (media?.hasAttribute("src")) {
    media.removeAttribute("src");
    media.load();
  }
}

$("#play").addEventListener("click", () => {
  wanted = !wanted;
  tries = 0;
  showState();
  if (!wanted) {
    clearTimeout(timer);
    silence();
    say($("#state"), "");
  } else if (onAir()) listen();
  else say($("#state"), stream.state === "ended" ? "This stream has ended." : "Waiting for the stream…");
});
$("#volume").addEventListener("input", (event) => {
  for (const each of [$("#audio"), $("#video")]) each.volume = event.target.value;
});
$("#via").addEventListener("change", () => wanted && listen());
for (const each of [$("#audio"), $("#video")]) {
  each.addEventListener("playing", () => {
    tries = 0;
    say($("#state"), "");
  });
  each.addEventListener("waiting", () => wanted && say($("#state"), "Loading…"));
  each.addEventListener("ended", again);
  each.addEventListener("error", () => each.hasAttribute("src") && !stopHls && again());
}

async function look() {
  const before = stream?.state;
  try {
    stream = await call("GET", `/streams/${encodeURIComponent(slug)}`);
  } catch (error) {
    if (stream && !(error.status === 404)) return; // the server is away; what plays may go on
    silence();
    wanted = false;
    $("#player").hidden = $("#chat").hidden = true;
    $("#missing").textContent = sentence(error);
    $("#missing").hidden = false;
    return;
  }
  $("#player").hidden = $("#chat").hidden = false;
  $("#missing").hidden = true;
  show();
  if (before === undefined) new RoomChat($("#chat"), streamRoom(slug));
  if (wanted && before !== stream.state) {
    if (stream.state === "live" && before !== "interrupted") listen();
    if (stream.state === "ended") {
      wanted = false;
      clearTimeout(timer);
      showState();
      say($("#state"), "This stream has ended.");
    }
  }
}

async function keepLooking() {
  for (;;) {
    const pause = wanted && stream?.state !== "live" ? WAITING : LOOK * (0.75 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (!document.hidden || wanted) await look();
  }
}

window.addEventListener("veza:session", look);
showState();
look();
keepLooking();
