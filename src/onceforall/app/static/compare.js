// Two networks side by side.
import { post, tell } from "./api.js";
import { amount, at, make, memory, milliseconds, percent, picture, pixels } from "./format.js";

export class Compare {
  constructor(explore) {
    Object.assign(this, { explore, a: null, b: null });
    at("setA").addEventListener("click", () => this.set("a", explore.network));
    at("setB").addEventListener("click", () => this.set("b", explore.network));
    this.draw();
  }

  set(side, network, name) {
    if (!network) return;
    this.put(side, network, name);
    at("comparecard").scrollIntoView({ block: "nearest" });
  }

  put(side, network, given) {
    this[side] = { ...network, given, name: given ?? `${this.explore.predicted(network)}, ${amount(network.costs.macs)} MACs` };
    this.draw();
  }

  // Reload the numbers of both networks.
  async renew() {
    for (const side of ["a", "b"]) {
      const old = this[side];
      if (!old) continue;
      try {
        const network = await post("/api/network", { arch: old.arch, device: this.explore.device });
        if (this[side] === old) this.put(side, network, old.given);
      } catch (error) {
        tell(error.message);
      }
    }
  }

  draw() {
    const { a, b } = this, place = at("compare");
    if (!a && !b) {
      place.replaceChildren(make("p", { class: "empty" }, "Choose two networks with “Compare as A” and “Compare as B”, here or in the pins."));
      return;
    }
    const rows = [[`${this.explore.run.score}, predicted${this.explore.run.at ? `, ${this.explore.run.at}` : ""}`, (n) => percent(n.top1, 2), (n) => -n.top1], ["standard error", (n) => percent(n.std, 2), (n) => n.std]];
    for (const name of Object.keys((a ?? b).costs).filter((c) => c.startsWith("latency"))) {
      rows.push([`latency, ${name.slice(8)}`, (n) => milliseconds(n.costs[name]), (n) => n.costs[name]]);
    }
    rows.push(["MACs", (n) => amount(n.costs.macs), (n) => n.costs.macs], ["parameters", (n) => amount(n.costs.params), (n) => n.costs.params]);
    rows.push(["activations", (n) => memory(n.costs.memory_bytes), (n) => n.costs.memory_bytes]);
    rows.push(["resolution", (n) => pixels(n.resolution)], ["blocks", (n) => n.blocks], ["depths", (n) => n.depths.join(", ")]);
    const cell = (n, other, [, show, order]) =>
      make("td", { class: order && n && other && order(n) < order(other) ? "better" : null }, n ? show(n) : "–");
    place.replaceChildren(
      make("div", { class: "scroll" }, make("table", {},
        make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "A"), make("th", { scope: "col" }, "B"))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row[0]), cell(a, b, row), cell(b, a, row)))),
      )),
      make("div", {}, ...["a", "b"].filter((side) => this[side]).flatMap((side) => [
        make("h3", {}, `${side.toUpperCase()}: ${this[side].name} `,
          make("button", { type: "button", "aria-label": `Remove ${side.toUpperCase()}`, onclick: () => ((this[side] = null), this.draw()) }, "×")),
        make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `Network ${side.toUpperCase()}; scrolls sideways` }, picture(this[side].svg)),
      ])),
    );
  }
}
