// A network's answers on held-out images: confusion matrix, photographs, and where two networks disagree.
import { attempt, get, post } from "./api.js";
import { amount, at, make, picture, pixels } from "./format.js";
import { isGoing, progress } from "./jobs.js";

export class Looks {
  constructor(explore) {
    Object.assign(this, { explore, looks: [], chosen: null, seen: new Set() });
    at("lookshown").addEventListener("click", () => this.add(this.explore.network?.arch, this.name(this.explore.network)));
    for (const end of ["largest", "smallest"]) at(`look${end}`).addEventListener("click", () => this.add(end, `the ${end}`));
    at("lookexported").addEventListener("click", () => attempt(() => post("/api/looks/add", { export: at("lookexport").value })));
    at("other").addEventListener("change", () => attempt(() => this.against()));
    at("matrix").addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link) return;
      event.preventDefault();
      attempt(() => this.cell(...link.getAttribute("href").split("-").slice(1)));
    });
  }

  name(n) {
    return n && `${pixels(n.resolution)}, ${amount(n.costs.macs)} MACs`;
  }

  add(arch, name) {
    if (arch) attempt(() => post("/api/looks/add", { arch, name }));
  }

  // Running measurements, and failed or cancelled ones that were not closed yet.
  draw(jobs) {
    const ended = (job) => job.own && ["failed", "cancelled"].includes(job.state) && !this.seen.has(job.id);
    at("lookjobs").replaceChildren(...jobs.filter((job) => isGoing(job) || ended(job)).map((job) =>
      make("li", { "data-id": job.id, "data-state": job.state }, make("b", {}, job.name), ...(isGoing(job) ? progress(job) : [
        make("p", { class: job.state === "failed" ? "warn" : "soft" }, job.error || "Cancelled."),
        make("button", { type: "button", onclick: () => (this.seen.add(job.id), this.draw(jobs)) }, "Close")]))));
  }

  async load() {
    const { looks, others, problem, exports } = await get("/api/looks"), before = new Set(this.looks.map((look) => look.id));
    this.looks = looks;
    at("lookshown").hidden = !this.explore.network;
    at("lookexports").hidden = !exports.length;
    at("lookexport").replaceChildren(...exports.map((name) => make("option", { value: name }, name)));
    const fresh = looks.find((look) => !before.has(look.id)); // show what was just measured
    const next = (before.size && fresh) || looks.find((look) => look.id === this.chosen) || looks[0];
    at("looks").replaceChildren(...looks.map((look) => this.row(look)));
    if (!looks.length) at("looks").append(make("li", { class: "empty" }, problem || "Nothing measured yet."));
    if (others) at("looks").append(make("li", { class: "soft small" }, `${others} more, measured with different weights or images, are not shown.`));
    if (next) await this.choose(next.id);
    else at("look").hidden = true;
  }

  row(look) {
    const choose = () => attempt(() => this.choose(look.id));
    return make("li", { class: "row" },
      make("button", { type: "button", class: "look", "data-id": look.id, "aria-pressed": String(look.id === this.chosen), onclick: choose },
        make("b", {}, look.name), make("small", {}, look.told)),
      make("button", { type: "button", "aria-label": `Remove: ${look.name}`, title: "Remove", onclick: () => attempt(() => post(`/api/looks/${look.id}/remove`)) }, "×"));
  }

  async choose(id) {
    const one = await get(`/api/looks/${id}`), other = at("other").value;
    this.chosen = id;
    for (const button of document.querySelectorAll("#looks .look")) button.setAttribute("aria-pressed", String(button.dataset.id === id));
    at("look").hidden = false;
    at("lookname").textContent = `${one.name}, on ${one.images.toLocaleString("en")} held-out images`;
    at("looknumbers").replaceChildren(...one.numbers.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, value))));
    at("looknote").hidden = !one.note;
    at("looknote").textContent = one.note;
    at("matrix").replaceChildren(...(one.picture ? [picture(one.picture), make("p", { class: "soft small" },
      "Rows: true classes. Columns: predicted classes. Click a cell to see the photographs.")] : []));
    at("pairs").replaceChildren(...one.pairs.map(([i, j, words]) => make("li", {}, make("button", { type: "button", onclick: () => attempt(() => this.cell(i, j)) }, words))));
    if (!one.pairs.length) at("pairs").append(make("li", { class: "soft" }, "No mistakes."));
    this.photos("The most confident mistakes", one.worst, one.worst.length);
    at("lookeach").textContent = one.header[0] === "label" ? "Label by label" : "Class by class";
    at("looktable").replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, ...one.header.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...one.rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)))))));
    const others = this.looks.filter((look) => look.id !== id);
    at("other").replaceChildren(...others.map((look) => make("option", { value: look.id }, `${look.name}: ${look.told}`)));
    if (others.some((look) => look.id === other)) at("other").value = other;
    at("other").parentElement.hidden = !others.length;
    await this.against();
  }

  async cell(i, j) {
    const found = await get(`/api/looks/${this.chosen}/cell/${i}/${j}`);
    this.photos(found.title, found.photos, found.total);
  }

  photos(title, photos, total) {
    at("celltitle").textContent = heading(title, photos, total);
    at("cell").replaceChildren(...photos.map(photo));
  }

  async against() {
    const other = at("other").value;
    if (!other) {
      at("against").replaceChildren(make("p", { class: "empty" }, "Measure a second network, for example the smallest or the largest."));
      return;
    }
    const found = await get(`/api/looks/${this.chosen}/against/${other}`);
    at("against").replaceChildren(make("p", {}, `${found.told}.`), make("p", { class: "soft small" }, found.note), ...found.groups.flatMap((group) => [
      make("h3", {}, heading(group.title, group.photos, group.total)), make("div", { class: "photos" }, ...group.photos.map(photo))]));
  }
}

const heading = (title, photos, total) => `${title}: ${total > photos.length ? `${photos.length} of ${total.toLocaleString("en")}` : total || "none"}`;

const photo = (one) => make("figure", {},
  make("img", { src: `/api/photos/${one.image}`, alt: one.words, title: one.name, loading: "lazy", width: 96, height: 96 }),
  make("figcaption", {}, one.words.replaceAll(" %", "\u00a0%")));
