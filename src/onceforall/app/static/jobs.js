// Exports: choose formats, watch, cancel, download.
import { attempt, get, post } from "./api.js";
import { amount, at, cost, make, milliseconds, percent } from "./format.js";

const WORDS = { pytorch: "PyTorch: weights.safetensors and a readable model.py", onnx: "ONNX", "onnx-int8": "ONNX, int8",
  "torch-export": "torch.export (.pt2)", openvino: "OpenVINO", "openvino-int8": "OpenVINO, int8", executorch: "ExecuTorch (.pte)",
  litert: "LiteRT (.tflite)" };

export const isGoing = (job) => ["waiting", "running"].includes(job.state);

// A job's progress, and a button to cancel it.
export const progress = (job) => [
  make("progress", { max: 1, value: job.share, "aria-label": `Progress of ${job.name}` }),
  make("div", { class: "row" }, make("span", {}, job.step),
    make("button", { type: "button", onclick: () => attempt(() => post(`/api/jobs/${job.id}/cancel`)) }, "Cancel")),
];

export class Jobs {
  constructor(explore, looks) {
    Object.assign(this, { explore, looks, named: false });
    at("exportname").addEventListener("input", () => (this.named = at("exportname").value !== ""));
    at("exportform").addEventListener("submit", (event) => {
      event.preventDefault();
      this.export();
    });
    this.draw([]);
  }

  formats(run) {
    const chosen = new Set(this.run ? this.chosen() : ["pytorch", "onnx"]);
    this.run = run;
    at("formats").replaceChildren(...run.formats.map((f) => {
      const lacks = f.missing.length > 0;
      const box = make("input", { type: "checkbox", name: "format", value: f.name, disabled: lacks });
      box.checked = chosen.has(f.name) && !lacks;
      const note = lacks ? `needs: pip install 'onceforall[${f.extra}]'` : "";
      return make("label", {}, box, WORDS[f.name] ?? f.name, make("small", { class: "soft" }, note));
    }));
  }

  chosen() {
    return [...document.querySelectorAll("#formats input:checked")].map((box) => box.value);
  }

  // Shows what would be exported now.
  offer() {
    const n = this.explore.network;
    at("export").disabled = !n || !this.run.finished;
    if (!n) return;
    const ms = n.costs[`latency:${this.explore.device}`];
    at("exportwhat").textContent = `The network shown: ${this.explore.predicted(n)} predicted, ${amount(n.costs.macs)} MACs` +
      (ms == null ? "." : `, ${milliseconds(ms)} on ${this.explore.device}.`) +
      (this.run.finished ? " It will be measured and exported, and each file verified and measured." : " It can be exported once training has finished.");
    if (!this.named) at("exportname").value = `${this.explore.predicted(n)}${ms == null ? "" : `, ${milliseconds(ms)}`}`;
  }

  export() {
    const { network, device } = this.explore;
    const limits = this.explore.wanted();
    const kept = Object.fromEntries(Object.entries(limits).filter(([key, value]) => this.keeps(network, key, value)));
    this.named = false;
    attempt(() => post("/api/jobs/add", { arch: network.arch, name: at("exportname").value, device, formats: this.chosen(), limits: kept }));
  }

  keeps(network, key, value) {
    return (network.costs[key === "latency_ms" ? `latency:${this.explore.device}` : key] ?? Infinity) <= value * (1 + 1e-9);
  }

  async load() {
    const jobs = await get("/api/jobs"), isExport = (job) => (job.kind ?? "export") === "export";
    this.draw(jobs.filter(isExport));
    this.looks.draw(jobs.filter((job) => job.kind === "look"));
  }

  draw(jobs) {
    const going = jobs.filter(isGoing).length;
    at("jobcount").textContent = going ? `(${going})` : "";
    if (!jobs.length) {
      at("jobs").replaceChildren(make("li", { class: "empty" }, "Nothing exported yet."));
      return;
    }
    at("jobs").replaceChildren(...jobs.map((job) => this.row(job)));
  }

  row(job) {
    const parts = [];
    const head = make("div", { class: "row" }, make("b", {}, job.name), make("span", { class: "soft" }, job.formats.join(", ")));
    if (isGoing(job)) parts.push(...progress(job));
    else if (job.state === "done") {
      const { told, test, latency, left_out: lost = {}, warnings = [] } = job.result;
      parts.push(make("p", {}, `Test ${told ?? `${test.map == null ? "top-1" : "mAP"} ${percent(test.map ?? test.top1)}`} on ${test.images.toLocaleString("en")} images, ${cost("latency", latency.ms)} measured on ${job.device}; files verified.`));
      for (const [format, why] of Object.entries(lost)) parts.push(make("p", { class: "warn" }, `Without ${WORDS[format] || format}: ${why}.`));
      for (const text of warnings) parts.push(make("p", { class: "warn" }, `${text}.`));
      parts.push(job.there ? make("a", { href: `/api/jobs/${job.id}/download`, download: `explored-${job.id}.zip` }, "Download (zip)") : "Its folder was removed.");
    } else {
      parts.push(make("p", { class: job.state === "failed" ? "warn" : "soft" }, job.state === "failed" ? job.error : "Cancelled."));
    }
    return make("li", { "data-id": job.id, "data-state": job.state }, head, ...parts);
  }
}
