// Live view of a training: its curves, and what the run holds.
import { get } from "./api.js";
import { at, duration, make, percent, picture } from "./format.js";

const STATES = { "going on": "Training now", done: "Training is done", stopped: "Training has stopped and can be resumed", imported: "The weights were imported" };

export class Training {
  async load() {
    const t = await get("/api/training");
    const facts = [`${STATES[t.state]}: step ${t.step.toLocaleString("en")}${t.steps ? ` of ${t.steps.toLocaleString("en")}` : ""}`];
    if (t.phases.length) facts.push(`phase ${t.phases.at(-1).name}`);
    for (const [, loss] of t.last.loss) facts.push(`loss ${loss.toFixed(3)}`);
    for (const [name, top1] of t.last.top1) facts.push(`${name} ${percent(top1)}`);
    facts.push(t.state === "done" ? `in ${duration(t.seconds)}` : `${duration(t.seconds)} so far`);
    if (t.remaining_s != null) facts.push(`about ${duration(t.remaining_s)} left`);
    at("trainstate").textContent = t.state === "imported" ? STATES.imported : facts.join(" · ");
    at("trainstate").dataset.step = t.step;
    at("trainbar").value = t.state === "done" ? 1 : t.steps ? t.step / t.steps : 0;
    for (const [name, chart] of Object.entries(t.charts)) at(`${name}chart`).replaceChildren(picture(chart));
  }

  parts(run) {
    at("parts").replaceChildren(...run.parts.map((part) => make("li", {}, make("b", {}, part.name), make("span", { class: "state" }, ` ${part.state}: `), part.text,
      ...(part.command ? [make("div", {}, make("code", {}, part.command))] : []))));
  }
}
