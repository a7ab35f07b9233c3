// A track's waveform on a canvas: what is played is coloured, what was said stands at its place, and a click, a finger
// or the arrow keys move on. To screen readers it is a slider.

import { clock } from "./dom.js";

const STEP = 5; // seconds of an arrow key

export class Waveform {
  /** `seek` is told seconds. */
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.seek = seek;
    this.duration = 0;
    this.position = 0;
    this.peaks = null;
    this.comments = [];
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", "Position");
    canvas.setAttribute("aria-valuemin", "0");
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#point(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.#point(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** `peaks`: {points, min: […], max: […]}, −128 … 127. */
  load(peaks, duration) {
    this.peaks = peaks;
    this.duration = duration;
    this.draw();
  }

  /** `comments`: [{at_ms, …}]. */
  mark(comments) {
    this.comments = comments;
    this.draw();
  }

  at(position, duration = this.duration) {
    this.position = position;
    this.duration = duration || this.duration;
    this.draw();
  }

  draw() {
    const { canvas, peaks } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.setAttribute("aria-valuemax", Math.round(this.duration || 0));
    canvas.setAttribute("aria-valuenow", Math.round(this.position));
    canvas.setAttribute("aria-valuetext", `${clock(this.position)} of ${clock(this.duration)}`);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [played, waiting, mark] = ["--accent", "--wave", "--mark"].map((name) => style.getPropertyValue(name));
    pen.clearRect(0, 0, width, height);
    const bar = Math.max(2, Math.round(3 * scale));
    const gap = Math.max(1, Math.round(scale));
    const bars = Math.floor(width / (bar + gap));
    const middle = height / 2;
    // The loudest moment fills the height: how loud a track is as a whole is heard well enough.
    const top = peaks ? Math.max(16, ...peaks.max, ...peaks.min.map((low) => -low)) : 128;
    const done = this.duration ? this.position / this.duration : 0;
    for (let i = 0; i < bars; i++) {
      let [low, high] = [0, 0];
      if (peaks) {
        const from = Math.floor((i / bars) * peaks.max.length);
        const to = Math.max(from + 1, Math.floor(((i + 1) / bars) * peaks.max.length));
        for (let point = from; point < to; point++) {
          low = Math.min(low, peaks.min[point]);
          high = Math.max(high, peaks.max[point]);
        }
      }
      const up = Math.max(scale, (high / top) * middle);
      const down = Math.max(scale, (-low / top) * middle);
      pen.fillStyle = (i + 0.5) / bars <= done ? played : waiting;
      pen.fillRect(i * (bar + gap), middle - up, bar, up + down);
    }
    pen.fillStyle = mark;
    for (const comment of this.comments) {
      if (!this.duration) break;
      const x = (comment.at_ms / 1000 / this.duration) * width;
      pen.beginPath();
      pen.arc(Math.min(Math.max(x, 3 * scale), width - 3 * scale), height - 4 * scale, 3 * scale, 0, 7);
      pen.fill();
    }
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    if (this.duration) this.seek(part * this.duration);
  }

  #key(event) {
    const steps = {
      ArrowLeft: -STEP,
      ArrowDown: -STEP,
      ArrowRight: STEP,
      ArrowUp: STEP,
      PageDown: -6 * STEP,
      PageUp: 6 * STEP,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[event.key];
    if (step === undefined || !this.duration) return;
    event.preventDefault();
    this.seek(Math.min(this.duration, Math.max(0, this.position + step)));
  }
}
