// Broadcasting from the browser: microphone, camera or screen → MediaRecorder → a socket, no faster than it takes it.

import { ask } from "./account.js";
import { call, openSocket, renew, session } from "./api.js";
import { $, clock, count, h, say, sentence } from "./dom.js";

const slug = decodeURIComponent(location.pathname.split("/")[2]);
const SLICE = 250; // milliseconds of a chunk
const FULL = 2 * 1024 * 1024; // bytes waiting for the line, above which the recorder pauses …
const EMPTY = 128 * 1024; // … and below which it goes on
const SOUND = ["audio/webm;codecs=opus", "audio/mp4"];
const PICTURE = ["video/webm;codecs=h264,opus", "video/webm;codecs=vp8,opus", "video/mp4"];
let stream;
let captured = null;
let recorder = null;
let socket = null;
let wanted = false;
let began = 0;
let sent = 0;
let tries = 0;
let meter = null;

function show() {
  $("#title").textContent = document.title = stream.title;
  $("#badge").textContent = stream.state === "live" ? "live" : stream.state;
  $("#badge").dataset.state = stream.state;
  $("#listeners").textContent = stream.state === "live" ? count(stream.listeners, "listener") : "";
  $("#page").href = `/s/${slug}`;
  $("#go").disabled = stream.state === "ended";
}

// What is captured

async function capture() {
  if (!navigator.mediaDevices) throw new Error("Browsers give pages a microphone only on https:// addresses and localhost.");
  const form = new FormData($("#setup"));
  const source = form.get("source");
  const clean = !form.get("plain");
  const audio = { echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean };
  if (source === "screen") return navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 30 }, audio: true });
  return navigator.mediaDevices.getUserMedia({ audio, video: source === "camera" ? { width: 1280, height: 720 } : false });
}

/** Show how loud it is: the peak of each moment. */
function watchLevel(media) {
  if (!media.getAudioTracks().length) return null;
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  context.createMediaStreamSource(media).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    $("#level").value = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  }, 100);
  return () => {
    clearInterval(timer);
    $("#level").value = 0;
    context.close();
  };
}

// What is sent

function connect() {
  const token = session()?.access_token;
  const own = (socket = openSocket(`/ws/stream/${slug}/publish`));
  own.binaryType = "arraybuffer";
  let refused = "";
  own.onmessage = (event) => {
    if (typeof event.data !== "string" || socket !== own) return;
    const { type, data } = JSON.parse(event.data);
    if (type === "publishing") record(own);
    else if (type === "on_air") {
      tries = 0;
      say($("#state"), "You are on air.");
    } else if (type === "error") say($("#state"), (refused = data.message), true);
  };
  own.onclose = async (event) => {
    if (socket !== own) return;
    stopRecorder();
    if (!wanted) return;
    if (event.code === 1006) await renew(token).catch(() => null);
    // 1008 and 1003: not allowed, or not understood. Trying again would end the same way.
    if (event.code === 1008 || event.code === 1003 || tries >= 8) {
      await stop();
      say($("#state"), refused || event.reason || "The server ended the broadcast.", true);
      return;
    }
    say($("#state"), `${refused || "The connection broke."} Connecting again…`, true);
    setTimeout(() => wanted && connect(), Math.min(500 * 2 ** tries++, 8000));
  };
}

/** A recorder of its own for each connection: what it makes begins with the header that a new listener needs. */
function record(own) {
  const picture = captured.getVideoTracks().length > 0;
  const mimeType = (picture ? PICTURE : SOUND).find((type) => MediaRecorder.isTypeSupported(type));
  const options = { mimeType, audioBitsPerSecond: 128_000, ...(picture ? { videoBitsPerSecond: 2_500_000 } : {}) };
  const mine = (recorder = new MediaRecorder(captured, options));
  // Chunks are handed on in order, though each is turned into bytes on its own.
  let queue = Promise.resolve();
  mine.ondataavailable = ({ data }) => {
    if (!data.size) return;
    queue = queue.then(async () => {
      const bytes = await data.arrayBuffer();
      if (socket !== own || own.readyState !== WebSocket.OPEN) return;
      own.send(bytes);
      sent += bytes.byteLength;
      // A line that is too slow must not fill the memory: the recorder waits, and time goes on without it.
      if (own.bufferedAmount > FULL && mine.state === "recording") {
        mine.pause();
        say($("#state"), "Your line is too slow: some of it is left out.", true);
      }
    });
  };
  mine.onerror = ({ error }) => say($("#state"), sentence(error), true);
  mine.start(SLICE);
}

setInterval(() => {
  if (recorder?.state === "paused" && socket?.bufferedAmount < EMPTY) recorder.resume();
  if (wanted) {
    const waiting = socket?.bufferedAmount ? `, ${Math.ceil(socket.bufferedAmount / 1024)} KiB waiting` : "";
    $("#figures").textContent = `${clock((Date.now() - began) / 1000)}, ${(sent / 1e6).toFixed(1)} MB sent${waiting}`;
  }
}, 250);

function stopRecorder() {
  if (recorder && recorder.state !== "inactive") recorder.stop();
  recorder = null;
}

async function start() {
  if (!session()) return ask();
  captured = await capture();
  captured.getTracks().forEach((track) => track.addEventListener("ended", stop)); // "stop sharing"
  const picture = captured.getVideoTracks().length > 0;
  $("#preview").hidden = !picture;
  $("#preview").srcObject = picture ? captured : null;
  if (picture) $("#preview").play().catch(() => null);
  meter = watchLevel(captured);
  wanted = true;
  [began, sent, tries] = [Date.now(), 0, 0];
  $("#go").textContent = "Go off air";
  $("#setup").inert = true;
  say($("#state"), "Connecting…");
  connect();
}

async function stop() {
  wanted = false;
  const last = recorder;
  const own = socket;
  stopRecorder();
  if (last) await new Promise((resolve) => setTimeout(resolve, 100)); // its last chunk comes after its end
  socket = null;
  own?.close(1000);
  captured?.getTracks().forEach((track) => track.stop());
  captured = null;
  meter?.();
  meter = null;
  $("#preview").srcObject = null;
  $("#preview").hidden = true;
  $("#go").textContent = "Go on air";
  $("#setup").inert = false;
  say($("#state"), "You are off air.");
}

$("#go").addEventListener("click", async () => {
  try {
    await (wanted ? stop() : start());
  } catch (error) {
    say($("#state"), error.name === "NotAllowedError" ? "The browser was told not to give it." : sentence(error), true);
  }
});
$("#end").addEventListener("click", async () => {
  if (!confirm("End this stream for good? What was recorded becomes a track.")) return;
  if (wanted) await stop();
  await call("POST", `/streams/${encodeURIComponent(slug)}/end`).catch((error) => say($("#state"), sentence(error), true));
  await look();
});
window.addEventListener("beforeunload", (event) => wanted && event.preventDefault());

// From elsewhere

function showSource(source) {
  const lines = {
    "Server": source.server,
    "Port": String(source.port),
    "Mount": source.mount,
    "User": source.user,
    "Password": source.password,
    "FFmpeg": source.ffmpeg,
    ...(source.rtmp_url ? { RTMP: source.rtmp_url } : {}),
  };
  $("#source").replaceChildren(
    ...Object.entries(lines).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, h("code", {}, value))]),
  );
}

$("#new-key").addEventListener("click", async () => {
  if (!confirm("The old key stops working. Go on?")) return;
  try {
    showSource((await call("POST", `/streams/${encodeURIComponent(slug)}/key`)).source);
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
});

// The page

async function look() {
  try {
    stream = await call("GET", `/streams/${encodeURIComponent(slug)}`);
    if (session()?.user?.id !== stream.owner?.id) throw new Error("Only its owner broadcasts here: log in as such.");
  } catch (error) {
    if (wanted) return;
    $("#studio").hidden = $("#elsewhere").hidden = true;
    $("#missing").textContent = sentence(error);
    $("#missing").hidden = false;
    return;
  }
  $("#studio").hidden = $("#elsewhere").hidden = false;
  $("#missing").hidden = true;
  show();
}

const kept = sessionStorage.getItem(`veza.source.${slug}`);
if (kept) showSource(JSON.parse(kept));
setInterval(look, 5000);
window.addEventListener("veza:session", look);
look();
