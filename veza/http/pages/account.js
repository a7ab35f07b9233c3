// The top of every page: the way home, and who one is. Logging in happens in a dialog, wherever one is.

import { logIn, logOut, register, session } from "./api.js";
import { h, onSubmit } from "./dom.js";

const header = document.querySelector("header.top");
const who = h("div", { class: "who" });
header?.append(who);

const dialog = h(
  "dialog",
  { class: "card", "aria-labelledby": "log-in-title" },
  h(
    "form",
    { id: "log-in" },
    h("h2", { id: "log-in-title" }, "Log in"),
    h("label", {}, "Username", h("input", { name: "name", required: true, autocomplete: "username" })),
    h(
      "label",
      { class: "new-only" },
      "E-mail address",
      h("input", { name: "email", type: "email", autocomplete: "email" }),
    ),
    h(
      "label",
      {},
      "Password",
      h("input", { name: "password", type: "password", required: true, autocomplete: "current-password" }),
    ),
    h(
      "label",
      { class: "code", hidden: true },
      "Code of your authenticator, or a recovery code",
      h("input", { name: "code", autocomplete: "one-time-code" }),
    ),
    h("output", { role: "alert" }),
    h(
      "div",
      { class: "row" },
      h("button", { type: "submit", class: "main" }, "Log in"),
      h("button", { type: "button", class: "other", onclick: () => choose(!dialog.classList.contains("new")) }),
      h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel"),
    ),
  ),
);
document.body.append(dialog);

const code = dialog.querySelector(".code");

function choose(fresh) {
  code.hidden = true;
  code.querySelector("input").value = "";
  dialog.classList.toggle("new", fresh);
  dialog.querySelector("h2").textContent = fresh ? "Open an account" : "Log in";
  dialog.querySelector("button.main").textContent = fresh ? "Open an account" : "Log in";
  dialog.querySelector("button.other").textContent = fresh ? "I have one" : "I have none yet";
  dialog.querySelector("[name=email]").required = fresh;
  dialog.querySelector("[name=password]").minLength = fresh ? 8 : 1;
}

onSubmit(dialog.querySelector("form"), async (form) => {
  const [name, password] = [form.get("name").trim(), form.get("password")];
  if (dialog.classList.contains("new")) await register(name, form.get("email").trim(), password);
  else await logIn(name, password, code.hidden ? "" : form.get("code").trim()).catch(second);
  dialog.close();
});

/** An account with a second factor: once the password was right, ask for the code too. */
function second(error) {
  if (error.code === "TWO_FACTOR_REQUIRED") {
    code.hidden = false;
    code.querySelector("input").focus();
  }
  throw error;
}

/** What stands where only who is logged in has something to do. */
export const logInLink = () => h("button", { class: "link", type: "button", onclick: () => ask() }, "Log in");

/** Ask who one is. */
export function ask(fresh = false) {
  choose(fresh);
  dialog.showModal();
}

function show() {
  const user = session()?.user;
  who.replaceChildren(
    ...(user
      ? [
          h("a", { href: `/people/${user.id}`, class: "me" }, h("span", {}, user.username)),
          h("button", { class: "plain", onclick: logOut }, "Log out"),
        ]
      : [
          h("button", { class: "plain", onclick: () => ask() }, "Log in"),
          h("button", { class: "main", onclick: () => ask(true) }, "Open an account"),
        ]),
  );
  document.body.classList.toggle("known", Boolean(user));
}

for (const each of ["session", "named"]) window.addEventListener(`veza:${each}`, show);
show();
