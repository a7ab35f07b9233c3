// A room's conversation beside something: what was said, what is being said, and a line to say something oneself.
// After a loss it connects again, from the message it had last.

import { logInLink } from "./account.js";
import { call, openSocket, renew, session } from "./api.js";
import { h, onSubmit, say, sentence } from "./dom.js";

const SHOWN = 200; // messages kept on the page
const LONGEST = 15; // seconds between two tries

export class RoomChat {
  /** `enter` makes one a member and answers with the room; `withUser` instead: the letters with that person. */
  constructor(place, enter, withUser = null) {
    this.enter = enter;
    this.withUser = withUser;
    this.list = h("ol", { class: "messages", role: "log", "aria-live": "polite", tabIndex: 0 });
    this.state = h("output", { class: "small" });
    this.line = h("input", {
      name: "text",
      maxLength: 4000,
      autocomplete: "off",
      "aria-label": "Message",
      required: true,
    });
    this.form = h(
      "form",
      { class: "row" },
      this.line,
      h("button", { class: "main" }, "Send"),
      h("output", { role: "alert" }),
    );
    this.invitation = h(
      "p",
      { class: "small" },
      logInLink(),
      " to read and to talk.",
    );
    place.append(this.list, this.state, this.form, this.invitation);
    onSubmit(this.form, (fields) => this.#send(fields.get("text").trim()));
    window.addEventListener("veza:session", () => this.#begin());
    this.#begin();
  }

  #begin() {
    const user = session()?.user?.id ?? null;
    if (user === this.user) return;
    this.user = user;
    this.socket?.close();
    clearTimeout(this.timer);
    this.list.replaceChildren();
    this.room = this.seen = this.early = null;
    this.form.hidden = user === null;
    this.invitation.hidden = user !== null;
    say(this.state, "");
    if (user !== null) this.#connect(1);
  }

  async #connect(wait) {
    const user = this.user;
    const again = (text) => {
      if (this.user !== user) return;
      say(this.state, text);
      this.timer = setTimeout(() => this.#connect(Math.min(wait * 2, LONGEST)), wait * 1000);
    };
    try {
      if (this.room === null && this.enter) this.room = (await this.enter()).id;
    } catch (error) {
      if (error.status && error.status < 500) say(this.state, sentence(error), true);
      else again("The chat cannot be reached; trying again.");
      return;
    }
    const token = session()?.access_token;
    const socket = openSocket("/ws/chat");
    this.socket = socket;
    const waiting = (this.waiting = new Map());
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      const { type, data } = JSON.parse(event.data);
      if (type === "welcome") {
        this.#put("join_room", { ...this.#here(), ...(this.seen === null ? {} : { since_seq: this.seen }) });
      } else if (type === "join_room_ack") {
        wait = 1;
        this.room = data.room_id;
        say(this.state, "");
        if (this.seen === null || data.resume === "too_far") {
          this.early = []; // what is said now stands behind what was said before
          this.#put(this.withUser ? "dm_history" : "room_history", { ...this.#here(), limit: 50 });
        }
      } else if (type === "message_history") {
        const early = this.early || [];
        this.early = null;
        [...data.messages, ...early].forEach((message) => this.#add(message));
        this.seen ??= 0;
      } else if (["room_message", "direct_message"].includes(type) && data.room_id === this.room) {
        if (this.early) this.early.push(data);
        else this.#add(data);
      } else if (type === "message_deleted" || type === "message_edited") {
        const text = this.list.querySelector(`[data-id="${Number(data.id)}"] .text`);
        if (text) text.textContent = type === "message_edited" ? data.content : "(deleted)";
      } else if (type === "message_ack" || type === "error") {
        const pending = waiting.get(data.ref);
        waiting.delete(data.ref);
        if (type === "message_ack") pending?.resolve();
        else if (pending) pending.reject(new Error(data.message));
        else say(this.state, data.message, true);
      }
    };
    socket.onclose = async (event) => {
      for (const pending of waiting.values())
        pending.reject(new Error("The connection broke; it may not have been sent."));
      if (this.socket !== socket || this.user !== user) return;
      if (event.code === 4001 || event.code === 1006) await renew(token).catch(() => null);
      if ([4003, 4008].includes(event.code)) say(this.state, "The chat is closed for you.", true);
      else again("The chat is away; trying again.");
    };
  }

  #here() {
    return this.withUser ? { with_user: this.withUser } : { room: this.room };
  }

  /** Say how far one has read, while one looks; not for each message alone. */
  #read() {
    if (document.hidden || this.reading) return;
    this.reading = setTimeout(() => {
      this.reading = null;
      if (this.socket?.readyState === WebSocket.OPEN && this.seen)
        this.#put("mark_read", { ...this.#here(), seq: this.seen });
    }, 1000);
  }

  #put(type, data, ref) {
    this.socket.send(JSON.stringify({ type, data, ...(ref ? { ref } : {}) }));
  }

  async #send(text) {
    if (!text) return;
    if (this.socket?.readyState !== WebSocket.OPEN) throw new Error("The chat is away; in a moment.");
    const ref = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
    const stored = new Promise((resolve, reject) => this.waiting.set(ref, { resolve, reject }));
    if (this.withUser) this.#put("direct_message", { to_user_id: this.withUser, content: text, nonce: ref }, ref);
    else this.#put("room_message", { room: this.room, content: text, nonce: ref }, ref);
    await stored;
    this.line.value = "";
    this.line.focus();
  }

  #add(message) {
    if (this.seen !== null && message.seq <= this.seen) return;
    this.seen = message.seq;
    const below = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    const when = new Date(message.created_at);
    // The server's word on a step of an offer; nobody else sends this type.
    const offer = message.message_type === "offer" && /^\/api\/v1\/offers\/(\d+)$/.exec(message.media_url)?.[1];
    this.list.append(
      h(
        "li",
        { "data-id": message.id },
        h("time", { dateTime: message.created_at }, spoken(when)),
        " ",
        author(message),
        " ",
        h("span", { class: "text" }, message.deleted_at ? "(deleted)" : message.content),
        offer ? h("a", { class: "after", href: `/offers#offer-${offer}` }, "The offer") : null,
      ),
    );
    while (this.list.children.length > SHOWN) this.list.firstChild.remove();
    if (below) this.list.scrollTop = this.list.scrollHeight;
    this.#read();
  }
}

/** The hour, and the day where it was another. */
function spoken(when) {
  const hour = { hour: "2-digit", minute: "2-digit" };
  if (when.toDateString() === new Date().toDateString()) return when.toLocaleTimeString([], hour);
  return when.toLocaleString([], { day: "numeric", month: "short", ...hour });
}

function author(message) {
  const [id, name] = [message.user_id ?? message.from_user_id, message.username || message.from_username];
  return h("b", {}, id && name ? h("a", { class: "me", href: `/people/${id}` }, name) : "somebody");
}

/** The way into a stream's room. */
export const streamRoom = (slug) => async () => call("POST", `/streams/${encodeURIComponent(slug)}/chat`);
