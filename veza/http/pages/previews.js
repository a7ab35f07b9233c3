// Pictures chosen for a listing, before and while they are sent: each with a preview, its progress, and a way to take it
// out again.

import { h, say, sentence } from "./dom.js";

export const MOST = 8;
const LARGEST = 5 * 1024 * 1024; // bytes; the server says so too, after they travelled

export class Previews {
  /** `remove` takes a stored picture away on the server. */
  constructor(list, field, remove) {
    this.list = list;
    this.remove = remove;
    this.waiting = new Map(); // item → file
    field.addEventListener("change", () => {
      for (const file of field.files) this.#choose(file);
      field.value = "";
    });
  }

  #item(source, name, drop) {
    const item = h(
      "li",
      {},
      h("img", { src: source, alt: name }),
      h("progress", { max: 1, value: 0, hidden: true, "aria-label": `${name}, sent` }),
      h("output", { class: "small", role: "status" }),
      h(
        "button",
        { type: "button", class: "link", "aria-label": `Remove ${name}`, onclick: () => drop(item) },
        "Remove",
      ),
    );
    this.list.append(item);
    return item;
  }

  /** One that is stored already. */
  stored(image) {
    this.#item(image.thumb_url, `picture ${image.n}`, async (item) => {
      try {
        await this.remove(image.n);
        item.remove();
      } catch (error) {
        say(item.querySelector("output"), sentence(error), true);
      }
    });
  }

  #choose(file) {
    const source = URL.createObjectURL(file);
    const item = this.#item(source, file.name, () => {
      this.waiting.delete(item);
      URL.revokeObjectURL(source);
      item.remove();
    });
    const place = item.querySelector("output");
    if (this.list.children.length > MOST) say(place, `There are ${MOST} already.`, true);
    else if (file.size > LARGEST) say(place, "It is larger than 5 MiB.", true);
    else this.waiting.set(item, file);
  }

  /** Send what is waiting, one after the other; whether all went well. `send(file, progress)` sends one. */
  async sendAll(send) {
    let well = true;
    for (const [item, file] of this.waiting) {
      const [bar, place] = [item.querySelector("progress"), item.querySelector("output")];
      bar.hidden = false;
      item.querySelector("button").disabled = true;
      try {
        await send(file, (part) => (bar.value = part));
        this.waiting.delete(item);
        say(place, "stored");
      } catch (error) {
        say(place, sentence(error), true);
        item.querySelector("button").disabled = false;
        well = false;
      } finally {
        bar.hidden = true;
      }
    }
    return well;
  }
}
