// Numbers for people, as in readable.py.

export const percent = (share, digits = 1) => (share == null ? "–" : `${(100 * share).toFixed(digits)} %`);

// Both ends of an interval of shares: near 0 or 100 % it is not symmetric, so there is no ±.
export const ends = (low, high) => `${(100 * low).toFixed(1)} to ${percent(high)}`;

export function amount(value) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value / size < 10 ? 2 : 1)} ${unit}`;
  }
  return value.toFixed(0);
}

export const memory = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(2)} MB` : `${(bytes / 1e3).toFixed(1)} kB`);

export const pixels = (resolution) => `${String(resolution).replace("x", "×")} px`;

export function milliseconds(value) {
  const digits = value < 1 ? 3 : Math.max(0, 2 - Math.floor(Math.log10(value)));
  return `${value.toFixed(digits)} ms`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes} min`;
}

export function cost(name, value) {
  if (name.startsWith("latency")) return milliseconds(value);
  return name === "memory_bytes" ? memory(value) : amount(value);
}

// Capitalized, unless the word has its own capitals, such as mAP.
export const sentence = (text) => (/^.[A-Z]/.test(text) ? text : text[0].toUpperCase() + text.slice(1));

// An element with attributes (on…: listeners) and children; text is never parsed as markup.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const at = (id) => document.getElementById(id);

export function picture(text, label) {
  const svg = document.importNode(new DOMParser().parseFromString(text, "text/html").querySelector("svg"), true);
  if (label) svg.setAttribute("aria-label", label);
  return svg;
}
