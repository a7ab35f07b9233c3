// The market's categories, for selections.

import { call } from "./api.js";
import { h } from "./dom.js";

/** An option for each, by slug. */
export async function categories() {
  const { categories: found } = await call("GET", "/categories");
  return found.map((each) => h("option", { value: each.slug }, each.name));
}
