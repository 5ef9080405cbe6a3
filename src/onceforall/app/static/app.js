// The page: tabs, the run, and what to reload when the server reports a change.
import { get, tell } from "./api.js";
import { Explore } from "./explore.js";
import { at, make, sentence } from "./format.js";
import { Jobs } from "./jobs.js";
import { Looks } from "./looks.js";
import { Pins } from "./pins.js";
import { Compare } from "./compare.js";
import { Standing } from "./standing.js";
import { Training } from "./training.js";

history.replaceState(null, "", "/"); // the key is in a cookie now: remove it from the address
const TABS = ["explore", "mistakes", "exports", "training"];
let run = null, seen = {};
const explore = new Explore(() => jobs.offer());
const compare = new Compare(explore);
const pins = new Pins(explore, compare);
const looks = new Looks(explore);
const jobs = new Jobs(explore, looks);
const training = new Training();
const standing = new Standing();

export function open(name, focus = false) {
  for (const tab of TABS) {
    at(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    at(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    at(tab).hidden = tab !== name;
  }
  if (focus) at(`tab-${name}`).focus();
  if (name === "exports") jobs.offer();
}

function missing() {
  const ready = run.ready, place = at("missing");
  at("sliders").hidden = at("best").hidden = at("chartcard").hidden = at("pinscard").hidden = at("comparecard").hidden = !ready;
  at("exportform").hidden = !ready;
  place.hidden = ready;
  if (ready) return;
  const wanting = run.parts.filter((part) => part.state !== "done" && ["training", "profile", "predictor"].includes(part.name));
  place.replaceChildren(
    make("h2", {}, run.problem ? "Not ready for exploring yet" : "Loading…"),
    make("p", {}, run.problem),
    make("ul", {}, ...wanting.map((p) => make("li", {}, `${p.name}: ${p.text} `, ...(p.command ? [make("code", {}, p.command)] : [])))),
    make("p", { class: "soft" }, run.problem ? "Run the command in a terminal; this page then continues by itself." : ""),
  );
}

async function load() {
  run = await get("/api/run");
  at("name").textContent = run.name;
  at("score").textContent = run.score;
  at("axisscore").textContent = sentence(run.score);
  at("about").textContent = `${run.data ?? "imported weights"} · ${run.space}`;
  document.title = `${run.name} – onceforall explorer`;
  missing();
  jobs.formats(run);
  training.parts(run);
  standing.text(run);
  at("toexport").disabled = !run.finished;
  at("toexport").title = run.finished ? "" : "available once training has finished";
  if (!run.ready) return;
  const focused = document.activeElement?.id;
  await explore.load(run);
  if (focused && document.activeElement === document.body) at(focused)?.focus(); // the sliders were replaced
}

// The predictor or a latency profile has changed, and so have all numbers of networks.
async function renew() {
  await load();
  tell(""); // clear an error about a device that is gone
  pins.forget();
  if (run.ready) await Promise.all([pins.load(), compare.renew()]);
}

async function changed(now) {
  const before = seen;
  seen = now;
  const differs = (key) => JSON.stringify(before[key]) !== JSON.stringify(now[key]);
  try {
    if (differs("generation") && before.generation) await renew();
    else if (differs("finished") && before.finished != null || differs("ready") || differs("problem") || differs("training") && !now.ready) await load();
    if (differs("quick")) standing.draw(now.quick);
    if (differs("version") && run?.ready) await explore.improved(now);
    if (differs("pins") && run?.ready) await pins.load();
    if (differs("jobs")) await jobs.load();
    if (differs("looks") || differs("ready")) await looks.load();
    if (differs("training")) await training.load();
    document.documentElement.dataset.ready = String(Boolean(run?.ready));
  } catch (error) {
    tell(error.message);
  }
}

for (const tab of TABS) at(`tab-${tab}`).addEventListener("click", () => open(tab));
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const now = TABS.findIndex((tab) => at(`tab-${tab}`).tabIndex === 0);
  open(TABS[(now + step + TABS.length) % TABS.length], true);
});
at("error").lastElementChild.addEventListener("click", () => tell(""));
at("toexport").addEventListener("click", () => open("exports", true));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
  const button = { p: "pin", a: "setA", b: "setB" }[event.key];
  if (button && !at("explore").hidden && run?.ready) at(button).click();
});

let queue = Promise.resolve();
const events = new EventSource("/api/events");
events.onmessage = (event) => (queue = queue.then(() => changed(JSON.parse(event.data))));
events.onopen = () => at("error").firstElementChild.textContent.includes("connection is lost") && tell("");
events.onerror = () => tell("the connection is lost: the explorer has ended or is restarting");
