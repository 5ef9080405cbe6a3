// Pinned networks: kept in the run directory, the same for everyone who opens it.
import { attempt, get, post, tell } from "./api.js";
import { amount, at, ends, make, milliseconds, percent, pixels } from "./format.js";

export class Pins {
  constructor(explore, compare) {
    Object.assign(this, { explore, compare, known: new Map() });
    at("pin").addEventListener("click", () => this.add());
    this.draw([]);
  }

  add() {
    const n = this.explore.network;
    if (!n) return;
    const ms = n.costs[`latency:${this.explore.device}`];
    const name = `${this.explore.predicted(n)}, ${ms == null ? `${amount(n.costs.macs)} MACs` : milliseconds(ms)}`;
    attempt(() => post("/api/pins/add", { arch: n.arch, name }));
  }

  // The numbers of networks must be requested again.
  forget() {
    this.known.clear();
  }

  async load() {
    const pins = await get("/api/pins");
    for (const pin of pins) {
      if (this.known.has(pin.arch)) continue;
      try {
        this.known.set(pin.arch, await post("/api/network", { arch: pin.arch, device: this.explore.device }));
      } catch (error) {
        tell(error.message);
      }
    }
    this.draw(pins);
  }

  draw(pins) {
    const place = at("pins"), focused = document.activeElement;
    if (place.contains(focused) && focused.matches("input") && focused.value !== focused.defaultValue) {
      focused.addEventListener("blur", () => this.load(), { once: true }); // keep what is being typed
      return;
    }
    if (!pins.length) {
      place.replaceChildren(make("li", { class: "empty" }, "Nothing pinned yet. Pins and their names are kept in the run directory."));
      return;
    }
    place.replaceChildren(...pins.map((pin) => this.row(pin)));
  }

  row(pin) {
    const n = this.known.get(pin.arch), remove = () => attempt(() => post(`/api/pins/${pin.id}/remove`));
    const input = make("input", { value: pin.name, maxlength: 80, "aria-label": "Name of the pin",
      onchange: () => attempt(() => post(`/api/pins/${pin.id}/rename`, { name: input.value })),
      onkeydown: (event) => event.key === "Enter" && input.blur() });
    const ms = n && Object.entries(n.costs).filter(([c]) => c.startsWith("latency")).map(([, v]) => milliseconds(v));
    const facts = n ? `${percent(n.top1)} (${ends(n.low, n.high)}) · ${[...ms, `${amount(n.costs.macs)} MACs`].join(" · ")} · ${pixels(n.resolution)}` : "";
    const button = (text, label, action) => make("button", { type: "button", "aria-label": `${label}: ${pin.name}`, title: label, onclick: action }, text);
    return make("li", { "data-id": pin.id },
      make("div", { class: "row" }, input,
        make("small", {}, facts),
        button("A", "Compare as A", () => this.compare.set("a", n, pin.name)),
        button("B", "Compare as B", () => this.compare.set("b", n, pin.name)),
        button("↧", "Export", () => (this.explore.show(n), document.getElementById("toexport").click())),
        button("×", "Remove", remove)));
  }
}
