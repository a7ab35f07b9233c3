// The little the pages need to make elements. Texts of others only ever become text.

/** An element: `on…` properties are listeners, others are set as properties or, with a dash or as `role`, attributes. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else if (key === "class") element.className = value;
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (selector) => document.querySelector(selector);

/** Seconds as people read them: 4:05, 1:02:09. */
export function clock(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–:––";
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** How long ago, as people say it; a date once that is longer. */
export function when(time) {
  const past = (Date.now() - new Date(time)) / 1000;
  if (past < 60) return "just now";
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 24 * 3600) return `${Math.floor(past / 3600)} h ago`;
  return new Date(time).toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/** Ask whether somebody means it; `yes` is what the button says that does it. */
export function sure(question, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "card", "aria-label": yes },
      h(
        "form",
        { method: "dialog" },
        h("p", {}, question),
        h(
          "div",
          { class: "row" },
          h("button", { class: "main", value: "yes" }, yes),
          h("button", { class: "plain", value: "" }, "Cancel"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString()} ${number === 1 ? one : many}`;
}

/** What went wrong, as a sentence. */
export function sentence(error) {
  const details = Object.values(error.details || {}).filter((each) => typeof each === "string");
  return [error.message || String(error), ...details].join(" ");
}

/** Say something in a place that screen readers watch. */
export function say(place, text, bad = false) {
  place.textContent = text;
  place.classList.toggle("bad", bad);
}

/** While a form's work is under way it cannot be sent again; what goes wrong stands in its `output`. */
export function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit], button:not([type])");
    const place = form.querySelector("output");
    if (button) button.disabled = true;
    if (place) say(place, "");
    try {
      await work(new FormData(form), form);
    } catch (error) {
      if (place) say(place, sentence(error), true);
      else throw error;
    } finally {
      if (button) button.disabled = false;
    }
  });
}
