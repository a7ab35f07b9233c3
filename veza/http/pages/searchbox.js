// The search box of every page: suggestions while one types (an ARIA combobox), Enter for everything that is found.

import { call } from "./api.js";
import { h } from "./dom.js";

const PAUSE = 120; // milliseconds without a key before the server is asked
const KINDS = {
  person: ["/people/", "person"],
  people: ["/people/", "person"],
  room: ["/rooms/", "room"],
  rooms: ["/rooms/", "room"],
  track: ["/tracks/", "track"],
  tracks: ["/tracks/", "track"],
  listing: ["/market/", "for sale"],
  listings: ["/market/", "for sale"],
};

const options = h("ul", {
  id: "suggestions",
  class: "card panel",
  role: "listbox",
  "aria-label": "Suggestions",
  hidden: true,
});
const field = h("input", {
  type: "search",
  name: "q",
  maxLength: 100,
  autocomplete: "off",
  placeholder: "Search",
  role: "combobox",
  "aria-label": "Search everything; press / to come here",
  "aria-autocomplete": "list",
  "aria-expanded": "false",
  "aria-controls": "suggestions",
});
export const searchBox = h("form", { class: "find", role: "search", action: "/search" }, field, options);

let active = -1;
let typing;
let asking = null;

function mark(index) {
  active = index;
  [...options.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === index)));
  if (index < 0) field.removeAttribute("aria-activedescendant");
  else {
    field.setAttribute("aria-activedescendant", options.children[index].id);
    options.children[index].scrollIntoView({ block: "nearest" });
  }
}

function close() {
  clearTimeout(typing);
  asking?.abort();
  options.hidden = true;
  field.setAttribute("aria-expanded", "false");
  mark(-1);
}

function option({ type, id, text, detail }, index) {
  const [base, kind] = KINDS[type] || ["/search?q=", type];
  const href = KINDS[type] ? base + id : base + encodeURIComponent(text);
  return h(
    "li",
    // The list takes no focus: that stays in the field, as does what a press would take away.
    {
      role: "option",
      id: `suggestion-${index}`,
      "data-href": href,
      "aria-selected": "false",
      onmousedown: (event) => event.preventDefault(),
      onclick: () => go(href),
    },
    h("span", {}, text),
    " ",
    h("span", { class: "small" }, [kind, detail].filter(Boolean).join(" · ")),
  );
}

function go(href) {
  close();
  location.href = href;
}

async function suggest() {
  asking?.abort();
  const text = field.value.trim();
  if (!text) return close();
  asking = new AbortController();
  const { signal } = asking;
  try {
    const query = new URLSearchParams({ q: text, limit: 8 });
    const { suggestions } = await call("GET", `/search/autocomplete?${query}`, { signal });
    if (signal.aborted) return;
    options.replaceChildren(...suggestions.map(option));
    options.hidden = suggestions.length === 0 || document.activeElement !== field;
    field.setAttribute("aria-expanded", String(!options.hidden));
    mark(-1);
  } catch {
    if (!signal.aborted) close(); // suggestions are no more than that; Enter still says what is wrong
  }
}

field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(suggest, PAUSE);
});
field.addEventListener("blur", close);
field.addEventListener("keydown", (event) => {
  const length = options.hidden ? 0 : options.children.length;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (!length) return suggest();
    // Before the first and behind the last one is the field itself.
    const step = event.key === "ArrowDown" ? 1 : -1;
    mark(((active + 1 + step + length + 1) % (length + 1)) - 1);
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (length) close();
    else if (field.value) field.value = "";
    else field.blur();
  } else if (event.key === "Enter" && active >= 0 && length) {
    event.preventDefault();
    go(options.children[active].dataset.href);
  }
});
searchBox.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (text) go(`/search?q=${encodeURIComponent(text)}`);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  event.preventDefault();
  field.focus();
  field.select();
});
if (location.pathname === "/search") field.value = new URLSearchParams(location.search).get("q") || "";
