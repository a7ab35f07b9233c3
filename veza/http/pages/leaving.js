// Taking one's data along, and deleting one's account.

import { Refusal, call, logOut, send } from "./api.js";
import { $, h, onSubmit, say, sentence, sure } from "./dom.js";

$("#export").addEventListener("click", async ({ target }) => {
  const place = $("#export-state");
  target.disabled = true;
  say(place, "It is being put together…");
  try {
    const answer = await send("GET", "/users/me/export"); // with who one is, which a link cannot say
    if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => ({})));
    const address = URL.createObjectURL(await answer.blob());
    h("a", { href: address, download: "veza.zip" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    say(place, "It is in your downloads.");
  } catch (error) {
    say(place, sentence(error), true);
  } finally {
    target.disabled = false;
  }
});

onSubmit($("#delete"), async (fields) => {
  if (!(await sure("Delete your account for ever? Nobody can bring it back.", "Delete it"))) return;
  const json = { password: fields.get("password") };
  const code = fields.get("code").trim();
  if (code) json[/^\d{6}$/.test(code) ? "totp_code" : "recovery_code"] = code;
  try {
    await call("DELETE", "/users/me", { json });
  } catch (error) {
    if (error.code === "TWO_FACTOR_REQUIRED") $("#delete-code").hidden = false;
    throw error;
  }
  await logOut();
  location.href = "/";
});
