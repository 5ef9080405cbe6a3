// A training, live: curves that grow, and what the run holds.
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { at, duration, make, percent } from "./format.js";

const STATES = { "going on": "Training now", done: "Training is done", stopped: "Training has stopped and can go on", imported: "The weights were imported" };

export class Training {
  async load() {
    const t = await get("/api/training"), last = t.loss.at(-1);
    const facts = [`${STATES[t.state]}: step ${t.step.toLocaleString("en")}${t.steps ? ` of ${t.steps.toLocaleString("en")}` : ""}`];
    if (t.phases.length) facts.push(`phase ${t.phases.at(-1).name}`);
    if (last) facts.push(`loss ${last[1].toFixed(3)}`);
    for (const [name, points] of Object.entries(t.top1)) facts.push(`${name} ${percent(points.at(-1)[1])}`);
    facts.push(t.state === "done" ? `in ${duration(t.seconds)}` : `${duration(t.seconds)} so far`);
    if (t.remaining_s != null) facts.push(`about ${duration(t.remaining_s)} left`);
    at("trainstate").textContent = t.state === "imported" ? STATES.imported : facts.join(" · ");
    at("trainstate").dataset.step = t.step;
    at("trainbar").value = t.state === "done" ? 1 : t.steps ? t.step / t.steps : 0;
    this.draw("losschart", { training: t.loss }, t, { title: "loss", show: (v, step) => v.toFixed(step < 0.1 ? 2 : 1) });
    this.draw("top1chart", t.top1, t, { title: "top-1, %", most: 1, show: (v, step) => (100 * v).toFixed(step < 0.01 ? 1 : 0) });
  }

  draw(place, series, t, y) {
    const names = Object.keys(series).filter((name) => series[name].length), points = names.flatMap((name) => series[name]);
    if (!points.length) {
      at(place).replaceChildren(make("p", { class: "empty" }, "No values yet."));
      return;
    }
    const chart = new Chart(place, { x: { title: "step", show: (v) => v.toLocaleString("en") }, y, height: 210, label: `${y.title} over steps: ${names.join(", ")}` });
    chart.begin([0, ...points.map((p) => p[0])], points.map((p) => p[1]), true);
    for (const phase of t.phases.slice(1)) chart.mark(phase.step, "");
    names.forEach((name, i) => chart.line(series[name], i % 4));
    chart.show(names.map((name, i) => [name, "line", i % 4]));
  }

  parts(run) {
    at("parts").replaceChildren(...run.parts.map((part) => make("li", {}, make("b", {}, part.name), make("span", { class: "state" }, ` ${part.state}: `), part.text,
      ...(part.command ? [make("div", {}, make("code", {}, part.command))] : []))));
  }
}
