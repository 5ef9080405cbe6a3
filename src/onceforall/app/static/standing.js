// Without a predictor: which weights the numbers belong to, and the measurement of newer ones.
import { attempt, post } from "./api.js";
import { at } from "./format.js";

export class Standing {
  constructor() {
    at("quickturn").addEventListener("click", () => attempt(() => post("/api/quick", { on: this.quick.paused || Boolean(this.quick.error) })));
  }

  text(run) {
    at("standingtext").textContent = run.standing && `${run.standing}.`;
    this.final = run.standing && !run.at; // no newer weights will come
    this.draw(run.quick);
  }

  draw(quick) {
    this.quick = quick;
    const { paused, possible, step, share, error } = quick, waiting = "Newer weights are measured as soon as they exist.";
    at("standing").hidden = !(possible || at("standingtext").textContent);
    at("quickstep").parentElement.hidden = !possible || (this.final && !step && !error);
    at("quickstep").textContent = error || (paused ? "Measuring newer weights is paused." : step ? `Measuring in the background, ${step}` : waiting);
    at("quickbar").hidden = !step;
    at("quickbar").value = share;
    at("quickturn").textContent = paused ? "Measure" : error ? "Try again" : "Pause";
  }
}
