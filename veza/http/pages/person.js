// Somebody: who he is, what he plays, what he offers; and the ways to follow him and to write to him.

import { logInLink } from "./account.js";
import { call, session } from "./api.js";
import { face, listingCard, trackCard } from "./cards.js";
import { $, count, say, sentence } from "./dom.js";
import { reportButton } from "./report.js";

const id = Number(location.pathname.split("/")[2]);
let person;

function show() {
  const mine = session()?.user?.id === id;
  document.title = $("#title").textContent = person.username;
  $("#face").replaceChildren(face(person, 256));
  const name = [person.first_name, person.last_name].filter(Boolean).join(" ");
  const followers = Number.isInteger(person.follower_count) ? count(person.follower_count, "follower") : "";
  $("#about").textContent = [name, followers, person.follows_me ? "follows you" : ""].filter(Boolean).join(" · ");
  $("#bio").textContent = person.bio || "";
  $("#follow").hidden = $("#write").hidden = $("#report").hidden = mine;
  $("#follow").textContent = person.is_following ? "Following" : "Follow";
  $("#follow").setAttribute("aria-pressed", String(Boolean(person.is_following)));
  $("#settings").hidden = !mine;
  $("#write").href = `/messages/${id}`;
  $("#person").hidden = false;
}

async function fill(section, list, path, card) {
  const found = Object.values(await call("GET", path)).find(Array.isArray) || [];
  $(list).replaceChildren(...found.map(card));
  $(section).hidden = found.length === 0;
}

async function begin() {
  if (!session()) {
    $("#missing").replaceChildren(logInLink(), " to see people.");
    $("#missing").hidden = false;
    $("#person").hidden = true;
  } else {
    try {
      person = await call("GET", `/users/${id}`);
      $("#missing").hidden = true;
      show();
      await fill("#sounds", "#tracks", `/users/${id}/tracks?limit=24`, trackCard);
    } catch (error) {
      $("#missing").textContent = sentence(error);
      $("#missing").hidden = false;
      return;
    }
  }
  await fill("#goods", "#listings", `/listings?user_id=${id}&limit=24`, listingCard).catch(() => null);
}

$("#follow").addEventListener("click", async () => {
  try {
    Object.assign(person, await call(person.is_following ? "DELETE" : "PUT", `/users/${id}/follow`));
    show();
  } catch (error) {
    say($("#state"), sentence(error), true);
  }
});
$("#report").append(reportButton("user", id));
window.addEventListener("veza:session", begin);
begin();
