// One's own account: who one is, the password, the second factor, and leaving.

import { ask } from "./account.js";
import { call, remember, session, upload } from "./api.js";
import { face } from "./cards.js";
import { $, onSubmit, say, sentence } from "./dom.js";
import { showFactor } from "./factor.js";
import "./leaving.js";

const PARTS = ["#profile", "#password", "#factor", "#leaving"];
const NAMES = ["username", "first_name", "last_name", "bio"];
const profile = $("#profile");
const state = profile.querySelector("output");
let user;

function showFace() {
  $("#face").replaceChildren(face(user, 256));
  $("#no-picture").hidden = !user.avatar;
}

async function picture(work) {
  try {
    user.avatar = (await work()).avatar;
    showFace();
    say(state, "The picture is saved.");
  } catch (error) {
    say(state, sentence(error), true);
  }
}

$("#picture").addEventListener("change", async ({ target }) => {
  const form = new FormData();
  form.append("avatar", target.files[0]);
  target.value = "";
  if (form.get("avatar") instanceof File) await picture(() => upload("/users/me/avatar", form, () => null));
});
$("#no-picture").addEventListener("click", () => picture(() => call("DELETE", "/users/me/avatar")));

onSubmit(profile, async (fields) => {
  const json = Object.fromEntries(NAMES.map((name) => [name, fields.get(name).trim() || null]));
  user = await call("PUT", "/users/me", { json });
  remember(user);
  say(state, "Saved.");
});

onSubmit($("#password"), async (fields, form) => {
  const json = { current_password: fields.get("current_password"), new_password: fields.get("new_password") };
  await call("PUT", "/users/me/password", { json });
  form.reset();
  say(form.querySelector("output"), "The password is changed; all other logins have ended.");
});

async function begin() {
  for (const part of PARTS) $(part).hidden = !session();
  $("#missing").hidden = Boolean(session());
  $("#missing").textContent = "You are not logged in.";
  if (!session()) return ask();
  try {
    user = await call("GET", "/users/me");
    for (const name of NAMES) profile.elements[name].value = user[name] || "";
    showFace();
    await showFactor();
  } catch (error) {
    say(state, sentence(error), true);
  }
}

window.addEventListener("veza:session", begin);
begin();
