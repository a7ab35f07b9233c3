// A room, /rooms/{id}, or the letters with somebody, /messages/{id}: a name above, the talk below.

import { call, session } from "./api.js";
import { RoomChat } from "./chat.js";
import { $, count, sentence } from "./dom.js";

const [, kind, id] = location.pathname.split("/");
const letters = kind === "messages";
let begun = false;

async function name() {
  if (letters) {
    const person = await call("GET", `/users/${id}`);
    return [person.username, [person.first_name, person.last_name].filter(Boolean).join(" ")];
  }
  const room = await call("GET", `/chat/rooms/${id}`);
  if (room.with_user) {
    location.replace(`/messages/${room.with_user}`); // a conversation goes by the other person
    await new Promise(() => {});
  }
  return [room.name || "Room", [room.description, count(room.member_count, "member")].filter(Boolean).join(" · ")];
}

async function begin() {
  if (begun) return;
  $("#chat").hidden = false;
  $("#missing").hidden = true;
  if (session()) {
    try {
      const [title, about] = await name();
      document.title = $("#title").textContent = title;
      $("#about").textContent = about;
    } catch (error) {
      $("#chat").hidden = true;
      $("#missing").textContent = sentence(error);
      $("#missing").hidden = false;
      return;
    }
  } else $("#title").textContent = letters ? "Letters" : "Room";
  if ($("#chat .messages")) return;
  const enter = () => call("POST", `/chat/rooms/${id}/join`).then((joined) => ({ id: Number(id), ...joined }));
  new RoomChat($("#chat"), letters ? null : enter, letters ? Number(id) : null);
  begun = Boolean(session());
}

window.addEventListener("veza:session", begin);
begin();
