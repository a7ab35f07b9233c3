// Pictures of a listing: one large, the others small beneath it.

import { h } from "./dom.js";

/** Fill `place` with the pictures of a listing. */
export function gallery(place, { title, images }) {
  if (!images.length) return place.replaceChildren();
  const name = (index) => `${title}, picture ${index + 1} of ${images.length}`;
  const large = h("img", {
    class: "large",
    src: images[0].url,
    alt: name(0),
    width: images[0].width,
    height: images[0].height,
  });
  const choose = (index) => {
    large.src = images[index].url;
    large.alt = name(index);
    [large.width, large.height] = [images[index].width, images[index].height];
    [...small.children].forEach((each, i) => each.setAttribute("aria-pressed", String(i === index)));
  };
  const small = h(
    "div",
    { class: "row thumbs", hidden: images.length < 2 },
    ...images.map((image, index) =>
      h(
        "button",
        {
          type: "button",
          class: "plain",
          "aria-pressed": String(index === 0),
          "aria-label": name(index),
          onclick: () => choose(index),
        },
        h("img", { src: image.thumb_url, alt: "" }),
      ),
    ),
  );
  place.replaceChildren(large, small);
}
