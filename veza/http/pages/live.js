// What happens to this person while he looks: frames `notification` and `notifications_read`, as events of the window.
// All tabs of a browser share one socket, for a person may hold only a few: the tab that has the lock holds it and passes
// on what it hears. Where a browser knows no locks (plain http), each tab has its own.

import { openSocket, renew, session } from "./api.js";

const LONGEST = 30; // seconds between two tries
const TOLD = ["notification", "notifications_read"];
const channel = new BroadcastChannel("veza.live");
let leads = false;
let socket = null;
let timer;
let user = null;

const who = () => session()?.user?.id ?? null;

function say(type, data) {
  window.dispatchEvent(new CustomEvent(`veza:${type}`, { detail: data }));
}

channel.onmessage = ({ data: message }) => {
  if (message.user === who()) say(message.type, message.data);
};

/** Tell this tab and all others, as if the server had: `veza:{type}`. */
export function tell(type, data) {
  say(type, data);
  channel.postMessage({ user: who(), type, data });
}

function connect(wait) {
  const [mine, token] = [user, session()?.access_token];
  if (!leads || mine === null) return;
  const opened = openSocket("/ws/chat");
  socket = opened;
  opened.onmessage = (event) => {
    if (socket !== opened) return;
    const { type, data } = JSON.parse(event.data);
    if (type === "welcome") {
      wait = 1;
      tell("connected", {}); // what came meanwhile is asked for
    } else if (TOLD.includes(type)) tell(type, data);
  };
  opened.onclose = async (event) => {
    if (event.code === 4001 || event.code === 1006) await renew(token).catch(() => null);
    if (socket !== opened || user !== mine || event.code === 4003) return;
    timer = setTimeout(() => connect(Math.min(wait * 2, LONGEST)), wait * 1000);
  };
}

function begin() {
  if (who() === user) return;
  user = who();
  clearTimeout(timer);
  const old = socket;
  socket = null;
  old?.close();
  connect(1);
}

function lead() {
  leads = true;
  connect(1);
  return new Promise(() => {}); // until this tab is gone
}

window.addEventListener("veza:session", begin);
begin();
if (navigator.locks) navigator.locks.request("veza.live", lead);
else lead();
