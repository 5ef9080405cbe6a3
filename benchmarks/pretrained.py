"""One elastic training from trained weights against fixed networks, each fine-tuned alone: who is more accurate at each latency?

    python benchmarks/pretrained.py --data FOLDER --from NET,NET,… --out OUT [--units flowers17:0,magtile:0] [--threads 1]

A unit is a data set (a folder in FOLDER: `SETS` says how long each is trained) and a seed. Of each, every network of `--from` is
fine-tuned alone at every resolution of `--fixed`, and the first is trained as an elastic network (`ofa train --from`, default
recipe), measured, profiled and searched by `ofa compare`. The elastic training is given `SHARE` of what three of the fixed
trainings cost in the mean, in multiply-accumulates; the seconds of either side are measured, accuracy data and search included.

Budgets are the latencies of every second fixed network, from the fastest to the slowest. Winners are told by the test images, which
are opened once: by top-1, or by the mean over the classes where one has more than three times as many images as another. Every
finished unit leaves a line in OUT/pretrained.jsonl; an interrupted one goes on where it was. `--report` prints the tables and draws
OUT/pretrained.svg of the first unit. Results: docs/results/pretrained.md.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onceforall import elastic
from onceforall.common.files import append_line, read_lines
from onceforall.common.progress import Progress
from onceforall.common.readable import wilson
from onceforall.models import bring
from onceforall.options.presets import PRESETS
from onceforall.pipeline import Run, compare, predict, profile, train
from onceforall.pipeline.run_directory.environment import environment
from onceforall.report.charts import scatter_chart
from onceforall.report.drawing import Axis, Point
from onceforall.report.html import PAGES
from onceforall.scores import METRICS, UNEVEN
from onceforall.train import work_per_step

SETS: dict[str, dict[str, Any]] = {  # epochs of each fixed network, and images to train with
    "flowers17": {"epochs": 12.0},
    "magtile": {"epochs": 12.0},
    "wbc": {"epochs": 40.0},
    "eurosat": {"epochs": 3.0},
    "cifar10-jpeg/data": {"epochs": 2.0, "limit": 10_000},
}
SHARE = 0.75  # of three fixed trainings, that the elastic training is given; the rest is for accuracy data and searches
ELASTIC = (64, 96, 128, 160)  # pixels


def epochs_of(sources: list[str], fixed: list[int], epochs: float) -> float:
    """Of the elastic training."""
    macs = []
    for source in sources:
        model = bring(source).model
        for pixels in fixed:
            alone = elastic(model, (pixels,), widths=(), heads=(), depths=(), kernels=()).space
            macs.append(alone.lower(alone.largest(), alone.classes).macs)
    space = elastic(bring(sources[0]).model, ELASTIC).space
    preset = PRESETS["pretrained"]
    step = work_per_step(preset.schedule(space, 1000), space, space.classes)[0] / preset.recipe.batch_size / 3
    return float(SHARE * 3 * epochs * np.mean(macs) / step)


def unit(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train, compare, and write down."""
    sources, fixed = arguments.start.split(","), [int(text) for text in arguments.fixed.split(",")]
    options = SETS[name]
    data, out = str(arguments.data / name), arguments.out / f"{name.replace('/', '-')}-{seed}"
    said = time.monotonic()

    def say(text: str) -> None:
        print(f"{out.name} {time.monotonic() - said:6.0f} s: {text}", flush=True)

    def event(record: dict[str, Any]) -> None:
        if record["event"] in ("note", "validation") or (record["event"] == "train" and record["step"] % 200 == 0):
            say(json.dumps({k: v for k, v in record.items() if k != "arch"}))

    epochs = epochs_of(sources, fixed, options["epochs"])
    say(f"elastic training: {epochs:.1f} epochs")
    train(
        data, out=out, from_run=sources[0], space={"resolutions": ELASTIC}, epochs=epochs, seed=seed, resume=True,
        limit=options.get("limit"), holdout=arguments.holdout, progress=Progress(event=event),
    )  # fmt: skip
    profile(out, progress=Progress(count=lambda done, total, what: say(f"profile {done} {what}") if done == total else None))
    predicted = predict(out, subnets=arguments.subnets, seed=seed)
    say(f"predictor {predicted.predictor.kind}: {predicted.errors}")
    networks = [f"{source}@{pixels}" for source in sources for pixels in fixed]
    found = compare(
        out, networks, epochs=options["epochs"], rate=arguments.rate, seed=seed, progress=Progress(say=say, event=event)
    )
    run = Run.open(out)
    record = {
        "data": name, "seed": seed, "images": run.info.images, "epochs": {"elastic": epochs, "fixed": options["epochs"]},
        "predictor": {"kind": predicted.predictor.kind, "rmse": predicted.errors.rmse, "tau": predicted.errors.kendall_tau},
        "threads": torch.get_num_threads(), "torch": torch.__version__, "processor": environment()["processor"], **found.to_json(),
    }  # fmt: skip
    append_line(arguments.out / "pretrained.jsonl", record)


def report(path: Path) -> None:
    """Tables of all units."""
    print("| data, seed | test images | budget | ours | fixed | difference, points | held-out |\n|---|---|---|---|---|---|---|")
    gains, notes, over = [], [], 0
    for record in read_lines(path):
        rivals = {one["name"]: one for side in ("ours", "fixed") for one in record[side]}
        decided = METRICS[record.get("metric", "top1")]
        verdicts = [v for v in record["verdicts"] if v["budget"]["latency_ms"] is not None][::2]
        for v in verdicts:
            ours, fixed = rivals[v["ours"]], rivals[v["fixed"]]
            metric = "balanced" if record["uneven"] > UNEVEN else "test"
            gains.append(100 * (ours[metric] - fixed[metric]))
            over += v["over"]  # ours took longer than the budget when timed again
            cells = [
                f"{record['data']}, {record['seed']}",
                f"{ours['images']}",
                f"{v['budget']['latency_ms']:.2f} ms",
                f"{100 * ours[metric]:.1f} ({ours['resolution']} px)",
                f"{100 * fixed[metric]:.1f} ({fixed['name'].rpartition(':')[2]})",
                f"{gains[-1]:+.1f}; {decided} {100 * v['difference']:+.1f} [{100 * v['low']:+.1f}, {100 * v['high']:+.1f}]",
                f"{100 * ours['held_out']:.1f} / {100 * fixed['held_out']:.1f}",
            ]
            print(f"| {' | '.join(cells)} |")
        costs = record["costs"]
        once, each, alone = (costs[name] for name in ("once", "each", "fixed"))
        told = f"ours {once:.0f} s once and {each:.0f} s for a device (profile and a search), a fixed network {alone:.0f} s"
        notes.append(f"{record['data']}, {record['seed']}: {told}")
    print("\n" + "\n".join(notes))
    won = sum(gain >= 0 for gain in gains)
    print(
        f"ours at least as accurate in {won} of {len(gains)}; the worst difference is {min(gains):+.1f} points; over budget: {over}"
    )


def draw(path: Path) -> None:
    """Test top-1 over latency of the first unit, with Wilson intervals; the networks found for a budget of any kind."""
    record = read_lines(path)[0]
    groups = []
    for words, side in (("sub-networks of one elastic network", "ours"), ("fixed networks, each fine-tuned alone", "fixed")):
        points = [Point(one["name"], one["ms"], one["test"], None, wilson(one["test"], one["images"])) for one in record[side]]
        groups.append((words, points))
    name = f"{record['data']}: top-1 on {record['ours'][0]['images']} test images over latency, 95 % intervals"
    chart = scatter_chart(groups, Axis("latency, ONNX Runtime, one thread", "ms"), Axis("test top-1", "%", 100), name=name)
    style = PAGES.get_template("style.css").render().partition("*{")[0] + PAGES.get_template("charts.css").render()
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background:var(--paper)" '
    path.with_suffix(".svg").write_text(str(chart).replace("<svg ", head, 1).replace(">", f"><style>{style}</style>", 1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--from", dest="start", help="networks, the first of which becomes elastic")
    parser.add_argument("--fixed", default="64,96,128", help="pixels of the fixed networks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--units", default=",".join(f"{name}:0" for name in SETS), help="data set and seed")
    parser.add_argument("--rate", type=float, default=0.001, help="of the fixed networks, which want a lower one")
    parser.add_argument("--subnets", type=int, default=80, help="measured for the predictor")
    parser.add_argument("--holdout", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "pretrained.jsonl"
    if not arguments.report:
        known = {(record["data"], record["seed"]) for record in (read_lines(path) if path.exists() else [])}
        for text in arguments.units.split(","):
            name, _, seed = text.rpartition(":")
            if (name, int(seed)) not in known:
                unit(name, int(seed), arguments)
    report(path)
    draw(path)


if __name__ == "__main__":
    main()
