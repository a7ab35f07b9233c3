// What stands above every page: the way around, the search box, the bell, and who one is.

import "./account.js";
import { bell } from "./bell.js";
import { $, h } from "./dom.js";
import { searchBox } from "./searchbox.js";
import { session } from "./api.js";

const here = location.pathname;
const link = (href, text, properties = {}) =>
  h("a", { href, "aria-current": here === href || here.startsWith(`${href}/`) ? "page" : null, ...properties }, text);

const moderation = link("/moderation", "Moderation", { hidden: true });
const nav = h(
  "nav",
  { "aria-label": "Pages" },
  link("/market", "Market"),
  link("/rooms", "Talk"),
  link("/offers", "Offers", { class: "known-only" }),
  moderation,
);

function show() {
  // Whether one really may is the server's to say; this only spares others a way that leads nowhere.
  moderation.hidden = !["moderator", "admin", "super_admin"].includes(session()?.user?.role);
}

$("header.top .who").before(nav, searchBox, bell);
const main = $("main");
main.id ||= "main";
main.tabIndex = -1;
document.body.prepend(h("a", { class: "skip", href: `#${main.id}` }, "Skip to the page"));
window.addEventListener("veza:session", show);
show();
