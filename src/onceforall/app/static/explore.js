// Sliders → the best network: its numbers, its picture, its position on the front.
import { get, post, tell } from "./api.js";
import { Chart } from "./chart.js";
import { amount, at, cost, ends, make, memory, milliseconds, percent, picture, pixels } from "./format.js";

const STEPS = 1000;
const KEYS = ["macs", "params", "memory_bytes"];

export class Explore {
  constructor(shown) {
    Object.assign(this, { shown, run: null, network: null, limits: new Map(), asked: 0, background: null, timer: 0 });
    at("device").addEventListener("change", () => this.deviceChosen());
    at("axis").addEventListener("change", () => this.axisChosen());
    at("sliders").addEventListener("submit", (event) => event.preventDefault());
    at("chart").addEventListener("click", (event) => this.clicked(event));
  }

  async load(run) {
    const kept = this.state(), device = this.device;
    const before = [...this.limits.keys()].map((key) => [key, this.value(key)]); // with the old ranges
    this.run = run;
    this.background = null; // its axis may be gone
    at("device").replaceChildren(...run.devices.map((d) => make("option", { value: d.spec }, d.spec)));
    at("devices").hidden = !run.devices.length;
    if (run.devices.some((d) => d.spec === kept.device)) at("device").value = kept.device;
    this.sliders(kept.limits);
    for (const [key, value] of before) {
      if (!this.limits.has(key) || (key === "latency_ms" && this.device !== device)) continue;
      this.limits.get(key).range.value = Math.round(this.position(key, value));
      this.write(key);
    }
    this.axes(kept.axis);
    await this.ask();
    await this.renew();
    await this.front();
  }

  // If no network meets the limits any more, the last one stays, with its current numbers.
  async renew() {
    const old = this.network;
    if (!old || old.generation >= this.run.generation) return;
    try {
      const network = await post("/api/network", { arch: old.arch, device: this.device });
      if (this.network === old) this.show(network);
    } catch (error) {
      tell(error.message);
    }
  }

  // Saves the settings, to restore them after a reload.
  state() {
    try {
      return JSON.parse(sessionStorage.getItem("explore")) ?? { limits: {} };
    } catch {
      return { limits: {} };
    }
  }

  remember() {
    const limits = Object.fromEntries([...this.limits].map(([key, l]) => [key, { on: l.check.checked, value: l.range.value }]));
    sessionStorage.setItem("explore", JSON.stringify({ device: this.device, axis: at("axis").value, limits }));
  }

  get device() {
    return at("device").value;
  }

  axisOf(key) {
    return this.run.axes.find((a) => (key === "latency_ms" ? a.device === this.device && a.device : a.name === key));
  }

  sliders(kept) {
    const keys = [...(this.run.devices.length ? ["latency_ms"] : []), ...KEYS];
    this.limits.clear();
    at("limits").replaceChildren(
      ...keys.map((key) => {
        const label = this.axisOf(key).label, first = kept[key] ?? { on: key === keys[0], value: STEPS / 2 };
        const check = make("input", { type: "checkbox", id: `on-${key}`, onchange: () => this.moved(key) });
        const range = make("input", { type: "range", min: 0, max: STEPS, id: `to-${key}`, "aria-label": `Most ${label.toLowerCase()}`,
          oninput: () => ((check.checked = true), this.moved(key)) });
        const output = make("b", { id: `value-${key}` });
        const row = make("div", { class: "limit" }, check, make("label", { for: `on-${key}` }, label), output, range);
        check.checked = first.on;
        range.value = first.value;
        this.limits.set(key, { check, range, output, row });
        return row;
      }),
    );
    for (const key of keys) this.write(key);
    this.deviceInfo();
  }

  value(key) {
    const { low, high } = this.axisOf(key);
    return low * (high / low) ** (this.limits.get(key).range.value / STEPS);
  }

  position(key, value) {
    const { low, high } = this.axisOf(key);
    if (!(high > low)) return STEPS;
    return Math.max(0, Math.min(STEPS, (STEPS * Math.log(value / low)) / Math.log(high / low)));
  }

  set(key, value) {
    const limit = this.limits.get(key);
    limit.range.value = Math.ceil(this.position(key, value));
    limit.check.checked = true;
    this.moved(key);
  }

  write(key) {
    const { check, range, output, row } = this.limits.get(key);
    const show = { latency_ms: milliseconds, memory_bytes: memory }[key] ?? amount, text = show(this.value(key));
    output.textContent = check.checked ? `≤ ${text}` : "no limit";
    range.setAttribute("aria-valuetext", check.checked ? text : `off; ${text}`);
    row.classList.toggle("off", !check.checked);
  }

  // The limits that are on, as numbers.
  wanted() {
    return Object.fromEntries([...this.limits].filter(([, l]) => l.check.checked).map(([key]) => [key, this.value(key)]));
  }

  moved(key) {
    this.write(key);
    this.remember();
    this.ask();
  }

  deviceChosen() {
    for (const key of this.limits.keys()) this.write(key);
    this.axes(at("axis").value.startsWith("latency") ? `latency:${this.device}` : at("axis").value);
    this.deviceInfo();
    this.remember();
    this.ask().then(() => this.front());
  }

  deviceInfo() {
    const device = this.run.devices.find((d) => d.spec === this.device);
    at("deviceinfo").textContent = device
      ? `${device.processor}; nine of ten estimates within ±${percent(device.off90)}`
      : "no device profiled yet: ofa profile";
  }

  axes(kept) {
    const axes = this.run.axes.filter((a) => !a.device || a.device === this.device);
    axes.sort((a, b) => Number(Boolean(b.device)) - Number(Boolean(a.device)));
    at("axis").replaceChildren(...axes.map((a) => make("option", { value: a.name }, a.label)));
    if (axes.some((a) => a.name === kept)) at("axis").value = kept;
  }

  axisChosen() {
    this.remember();
    this.front();
  }

  // One request at a time: when an answer arrives, the newest position of the sliders is requested.
  async ask(quiet = false) {
    if (this.asking) {
      this.again = true;
      return this.asking;
    }
    const began = performance.now();
    this.asking = this.answer(began, quiet).finally(() => (this.asking = null));
    await this.asking;
    if (this.again) {
      this.again = false;
      await this.ask();
    }
  }

  async answer(began, quiet) {
    const query = new URLSearchParams({ device: this.device, ...this.wanted() });
    const run = this.run, position = [...this.limits].map(([key, l]) => `${key}=${l.check.checked ? l.range.value : "off"}`).join(" ");
    try {
      const found = await get(`/api/best?${query}`);
      if (found.network && found.network.generation > run.generation) return; // the page will reload all numbers in a moment
      const before = this.network;
      this.show(found.network);
      at("none").hidden = Boolean(found.network);
      at("none").textContent = found.message;
      at("best").classList.toggle("stale", !found.network);
      this.status(found, performance.now() - began, quiet && before && found.network && before.id !== found.network.id);
    } catch (error) {
      if (run === this.run) tell(error.message); // else the device is gone, and the request is repeated
    }
    at("best").dataset.position = position; // the answered position
  }

  status(found, ms, better) {
    const more = found.refining ? "searching for a better one…" : found.filling ? "still collecting networks…" : "nothing better was found";
    if (better) this.improvedAt = `improved to ${percent(found.network.top1, 2)}; `;
    else if (ms != null) this.improvedAt = "";
    if (ms != null) this.answered = `${found.considered.toLocaleString("en")} networks examined, answered in ${ms.toFixed(0)} ms`;
    at("status").textContent = `${this.answered}; ${this.improvedAt ?? ""}${more}`;
    at("status").dataset.ms = ms ?? at("status").dataset.ms;
  }

  show(network) {
    if (!network) return;
    const same = this.network?.id === network.id && this.network.generation === network.generation && this.shownDevice === this.device;
    this.network = network;
    this.shownDevice = this.device;
    at("best").dataset.id = network.id;
    if (!same) {
      at("tiles").replaceChildren(...this.tiles(network));
      at("picture").replaceChildren(picture(network.svg));
      this.shown(network);
    }
    this.draw();
  }

  // The predicted accuracy, with the weights it belongs to if they are not the final ones.
  predicted(n) {
    return `${percent(n.top1)}${this.run.at ? ` at ${this.run.at}` : ""}`;
  }

  tiles(n) {
    const tile = (value, label) => make("div", { class: "tile" }, make("b", {}, value), make("span", { title: label }, label));
    const device = this.run.devices.find((d) => d.spec === this.device), result = [
      tile(percent(n.top1), `${this.run.score}, predicted${this.run.at ? `, ${this.run.at}` : ""}; standard error: ${ends(n.low, n.high)}`),
    ];
    if (device) {
      const ms = n.costs[`latency:${device.spec}`];
      result.push(tile(milliseconds(ms), `latency ± ${percent(device.off90)} (90 %)`));
    }
    result.push(tile(amount(n.costs.macs), "MACs"), tile(amount(n.costs.params), "parameters"));
    result.push(tile(memory(n.costs.memory_bytes), "activations, one image"), tile(pixels(n.resolution), `${n.blocks} blocks: ${n.depths.join(", ")}`));
    return result;
  }

  async front() {
    const run = this.run, name = at("axis").value;
    try {
      const found = await get(`/api/front?cost=${encodeURIComponent(name)}`);
      if (run !== this.run) return;
      this.background = { name, ...found };
      this.draw();
    } catch (error) {
      if (run === this.run) tell(error.message);
    }
  }

  draw() {
    const back = this.background;
    if (!back || !this.network) return;
    const n = this.network, x = n.costs[back.name], axis = this.run.axes.find((a) => a.name === back.name);
    if (!axis || x == null) return; // new numbers are on their way
    const chart = new Chart("chart", {
      x: { title: axis.label + (axis.device ? `, ms, on ${axis.device}` : ""), show: (v) => (axis.device ? +v.toPrecision(6) : v ? cost(back.name, v) : "0") },
      y: { title: `${this.run.score}, %, predicted${this.run.at ? `, ${this.run.at}` : ""}`, most: 1, show: (v, step) => (100 * v).toFixed(step < 0.01 ? 1 : 0) },
      label: `${axis.label} and predicted ${this.run.score}: the front, random networks, and the chosen network`,
    });
    const points = [...back.cloud, ...back.front];
    chart.begin([...points.map((p) => p[0]), x], [...points.map((p) => p[1]), n.low, n.high]);
    chart.cloud(back.cloud);
    chart.line(back.front, 0);
    const key = axis.device ? "latency_ms" : axis.name;
    if (this.limits.get(key)?.check.checked) chart.mark(this.value(key), "limit");
    chart.point(x, n.top1, [n.low, n.high], 1);
    chart.show([["the best for each cost", "line", 0], ["random networks", "cloud"], ["this network", "point", 1], ["limit", "mark"]]);
    this.chart = chart;
  }

  clicked(event) {
    if (!this.chart || !event.target.closest("svg.chart")) return;
    const axis = this.run.axes.find((a) => a.name === this.background.name);
    this.set(axis.device ? "latency_ms" : axis.name, Math.max(axis.low, Math.min(axis.high, this.chart.at(event))));
  }

  // The server knows more networks: request again, at most twice a second.
  async improved(now) {
    this.run.filling = now.filling;
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      await this.ask(true);
      await this.front();
    }, 400);
  }
}
