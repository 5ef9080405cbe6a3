// Charts as SVG: round ticks, lines, points. Redrawn when values change, without animation.
import { at } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const DASHES = ["none", "7 3", "2 3", "9 3 2 3"];
const LEFT = 48, RIGHT = 26, TOP = 26, BOTTOM = 40;

export function node(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text != null) element.textContent = text;
  return element;
}

export function ticks(low, high, most = 6) {
  if (!(high > low)) [low, high] = [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
  const raw = (high - low) / (most - 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.floor(low / step + 1e-9), values = [first * step];
  while (values.at(-1) < high - 1e-9 * step) values.push((first + values.length) * step);
  return values;
}

export class Chart {
  // place: id of the element; x, y: {title, show: value → text, most}; height of the drawing
  constructor(place, { x, y, height = 300, label }) {
    Object.assign(this, { place: at(place), x, y, height, label, width: 560 });
  }

  begin(xs, ys) {
    this.xt = ticks(Math.min(...xs), Math.max(...xs));
    this.yt = ticks(Math.min(...ys), Math.max(...ys)).filter((t) => t <= (this.y.most ?? Infinity) + 1e-9);
    this.range = [this.xt[0], this.xt.at(-1)];
    this.svg = node("svg", { class: "chart", viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": this.label });
    const floor = this.height - BOTTOM;
    for (const t of this.yt) {
      this.add("path", { class: "grid", d: `M${LEFT} ${this.sy(t)}H${this.width - RIGHT}` });
      this.add("text", { class: "e", x: LEFT - 6, y: this.sy(t) + 4 }, this.y.show(t, this.yt[1] - this.yt[0]));
    }
    for (const t of this.xt) {
      this.add("path", { class: "axis", d: `M${this.sx(t)} ${floor}v4` });
      this.add("text", { class: "m", x: this.sx(t), y: floor + 17 }, this.x.show(t));
    }
    this.add("path", { class: "axis", d: `M${LEFT} ${floor}H${this.width - RIGHT}` });
    this.add("text", { class: "m soft", x: (LEFT + this.width - RIGHT) / 2, y: this.height - 6 }, this.x.title);
    this.add("text", { class: "soft", x: 4, y: 10, "font-size": 11 }, this.y.title);
    return this;
  }

  add(tag, attributes, text) {
    const made = node(tag, attributes, text);
    this.svg.append(made);
    return made;
  }

  sx(value) {
    return +(LEFT + ((value - this.range[0]) / (this.range[1] - this.range[0])) * (this.width - LEFT - RIGHT)).toFixed(1);
  }

  sy(value) {
    const [low, high] = [this.yt[0], this.yt.at(-1)];
    return +(this.height - BOTTOM - ((value - low) / (high - low)) * (this.height - TOP - BOTTOM)).toFixed(1);
  }

  // The value under a pointer.
  at(event) {
    const box = this.svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * this.width;
    return this.range[0] + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (this.range[1] - this.range[0]);
  }

  cloud(points) {
    for (const [a, b] of points) this.add("circle", { class: "cloud", cx: this.sx(a), cy: this.sy(b), r: 2 });
  }

  line(points, index) {
    if (!points.length) return;
    const d = points.map(([a, b], i) => `${i ? "L" : "M"}${this.sx(a)} ${this.sy(b)}`).join("");
    this.add("path", { class: `line s${index}`, "stroke-dasharray": DASHES[index], d });
    if (points.length === 1) this.add("circle", { class: `f${index}`, cx: this.sx(points[0][0]), cy: this.sy(points[0][1]), r: 3 });
  }

  point(x, y, [low, high], index, name) {
    const [a, b] = [this.sx(x), this.sy(y)];
    if (high > low) this.add("path", { class: `line s${index}`, d: `M${a} ${this.sy(low)}V${this.sy(high)}m-4 0h8M${a - 4} ${this.sy(low)}h8` });
    this.add("path", { class: `f${index}`, d: `M${a} ${b - 8}l8 8l-8 8l-8 -8Z` });
    if (name) this.add("text", { class: "halo m", x: a, y: b - 12 }, name);
  }

  mark(x, text) {
    if (x < this.range[0] || x > this.range[1]) return;
    this.add("path", { class: "limitline", d: `M${this.sx(x)} ${TOP}V${this.height - BOTTOM}` });
    const left = this.sx(x) > this.width * 0.7;
    this.add("text", { class: `halo${left ? " e" : ""}`, x: this.sx(x) + (left ? -5 : 5), y: this.height - BOTTOM - 6 }, text);
  }

  show(legend = []) {
    const keys = legend.map(([text, kind, index]) => {
      const sample = node("svg", { viewBox: "0 0 22 12", class: "chart", "aria-hidden": "true" });
      if (kind === "cloud") for (const [x, y] of [[5, 4], [11, 8], [17, 5]]) sample.append(node("circle", { class: "cloud", cx: x, cy: y, r: 2 }));
      if (kind === "line") sample.append(node("path", { class: `line s${index}`, "stroke-dasharray": DASHES[index], d: "M0 6H22" }));
      if (kind === "point") sample.append(node("path", { class: `f${index}`, d: "M11 0l6 6l-6 6l-6 -6Z" }));
      if (kind === "mark") sample.append(node("path", { class: "limitline", d: "M0 6H22" }));
      const key = document.createElement("span");
      key.append(sample, text);
      return key;
    });
    const row = document.createElement("div");
    row.className = "legend";
    row.append(...keys);
    this.place.replaceChildren(this.svg, row);
  }
}
