// The second factor: set up with an authenticator, proven once, and then asked for at each login.

import { call } from "./api.js";
import { $, count, h, onSubmit } from "./dom.js";

const password = () =>
  h(
    "label",
    {},
    "Password",
    h("input", { name: "password", type: "password", required: true, autocomplete: "current-password" }),
  );
const code = (text) =>
  h("label", {}, text, h("input", { name: "code", required: true, autocomplete: "one-time-code" }));

/** A form of these fields with one button. */
function form(fields, button, work) {
  const made = h(
    "form",
    {},
    ...fields,
    h("output", { role: "alert" }),
    h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, button)),
  );
  onSubmit(made, work);
  return made;
}

function put(...children) {
  $("#factor-place").replaceChildren(...children);
}

function keep(codes, next) {
  put(
    h(
      "p",
      {},
      "It is on. Keep these recovery codes where nobody else looks; each is good once, where the authenticator is not at hand. They are shown this once.",
    ),
    h("ol", { class: "codes" }, ...codes.map((each) => h("li", {}, h("code", {}, each)))),
    h("button", { class: "plain", type: "button", onclick: next }, "I have them"),
  );
}

function prove(made) {
  put(
    h("p", {}, "Let your authenticator read this, or type the secret into it; then type the code it shows."),
    h("img", { class: "qr", src: made.qr_code, alt: "The secret, for an authenticator to read" }),
    h("p", {}, h("code", {}, made.secret)),
    form([code("Code")], "Switch it on", async (fields) => {
      const { recovery_codes } = await call("POST", "/auth/2fa/enable", { json: { code: fields.get("code").trim() } });
      keep(recovery_codes, showFactor);
    }),
  );
}

/** Show how it stands, and what can be done about it. */
export async function showFactor() {
  const { enabled, recovery_codes_left } = await call("GET", "/auth/2fa");
  if (!enabled) {
    put(
      h("p", {}, "A stolen password alone opens nothing where a login takes a code of your authenticator too."),
      form([password()], "Set it up", async (fields) => {
        prove(await call("POST", "/auth/2fa/setup", { json: { password: fields.get("password") } }));
      }),
    );
    return;
  }
  const both = (fields) => ({ password: fields.get("password"), code: fields.get("code").trim() });
  put(
    h("p", {}, `It is on; ${count(recovery_codes_left, "recovery code")} left.`),
    form(
      [password(), code("Code of your authenticator, or a recovery code")],
      "Make new recovery codes",
      async (fields) => {
        const { recovery_codes } = await call("POST", "/auth/2fa/recovery-codes", { json: both(fields) });
        keep(recovery_codes, showFactor);
      },
    ),
    form([password(), code("Code of your authenticator, or a recovery code")], "Switch it off", async (fields) => {
      await call("POST", "/auth/2fa/disable", { json: both(fields) });
      await showFactor();
    }),
  );
}
