"""Does a network of a trained run get better when it is trained on its own, and with which recipe?

    python benchmarks/finetune.py RUN --out FOLDER [--networks smallest,0.26,0.45] [--recipes NAME,NAME…] [--epochs 5] [--seeds 0,1]

Networks are "smallest" and "largest", or the best measured one of a latency budget in ms of RUN/searches.jsonl. Every recipe of
`RECIPES` differs in one thing from "default", which is what `ofa specialise --finetune` does. Top-1 on the held-out images, before
and after, with BatchNorm statistics recalibrated; "running" are those that training leaves. `--test` also opens the test images:
once, for what was chosen by the held-out ones.

Every finished training leaves FOLDER/*.json; a second call goes on where the first stopped, also within a training. `--report`
prints the table from what is there. Results: docs/results/finetune.md.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onceforall import Arch
from onceforall.calibrate import Accuracy, evaluate_network, recalibrate, tally
from onceforall.common.files import append_line, make_folder, read_json, read_lines, read_text, write_json
from onceforall.common.progress import Progress
from onceforall.data import TrainBatches
from onceforall.pipeline import Run
from onceforall.pipeline.evaluate import calibrated
from onceforall.pipeline.specialising.finetune import RATE_SHARE
from onceforall.train import Schedule, finetune, finetuning

RECIPES: dict[str, dict[str, Any]] = {  # share of the training's peak rate, whether there is a teacher, changes of the recipe
    "default": {},
    "rate/4": {"share": RATE_SHARE / 4},
    "rate*2": {"share": RATE_SHARE * 2},
    "rate*4": {"share": RATE_SHARE * 4},
    "alone": {"distil": False},
    "ema": {"ema": 0.999},
    "no-dropout": {"dropout": 0.0},
}


def network_of(run: Run, name: str) -> Arch:
    if name in ("smallest", "largest"):
        return run.space.smallest() if name == "smallest" else run.space.largest()
    found = [r for r in read_lines(run.folder / "searches.jsonl") if r["budget"]["latency_ms"] == float(name)]
    best = max(found, key=lambda r: r["held_out_top1"] if r["measured_ms"] <= float(name) else 0.0)
    return Arch.from_json(best["arch"])


def tune(run: Run, splits: Any, name: str, recipe_name: str, epochs: int, seed: int, out: Path, *, test: bool) -> None:
    path = out / f"{name}-{recipe_name.replace('/', 'by').replace('*', 'x')}-{epochs}-{seed}.json"
    done: dict[str, Any] = read_json(path) if path.exists() else {}
    if done and ("test_after" in done or not test):
        return
    options = dict(RECIPES[recipe_name])
    share, distil = options.pop("share", RATE_SHARE), options.pop("distil", True)
    trained = Schedule.from_json(read_text(run.folder / "schedule.json"))
    recipe = replace(trained.recipe, **options)
    supernet, arch = run.supernet(), network_of(run, name)
    augment = run.augment
    assert augment is not None
    batches = TrainBatches(splits.train, recipe.batch_size, run.info.seed + seed, augment, run.preprocessing)
    rate = share * max(phase.rate for phase in trained.phases)
    schedule = finetuning(epochs * batches.batches_per_epoch, rate=rate, recipe=recipe, distil=distil)
    teacher = calibrated(run, supernet, run.space.largest(arch.resolution), splits).network.requires_grad_(False)
    network = supernet.extract(arch, dropout=recipe.dropout)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
    started = time.monotonic()

    def say(event: dict[str, Any]) -> None:
        if event["event"] in ("phase", "epoch") or event["step"] % 100 == 0:
            print(f"{path.stem}: {json.dumps(event)}", flush=True)

    finetune(
        network, schedule, lambda step: batches.batch(trained.steps + step, arch.resolution),
        folder=make_folder(out / f"{path.stem}-training"), steps_per_epoch=batches.batches_per_epoch,
        num_classes=run.num_classes, teacher=teacher, seed=run.info.seed + seed, progress=Progress(event=say),
    )  # fmt: skip
    seconds = time.monotonic() - started

    def measured(images: Any, *, running: bool = False) -> Accuracy:
        batches_of = run.eval_batches(images, arch.resolution)
        if running:
            with torch.no_grad():
                return tally((network(x), labels) for x, labels in batches_of)
        return evaluate_network(after, batches_of)

    network.eval()
    running = measured(splits.held_out, running=True)
    after = recalibrate(network, run.calibration_batches(splits, arch.resolution))
    before = calibrated(run, supernet, arch, splits)
    facts: dict[str, Any] = {
        "network": name, "recipe": recipe_name, "epochs": epochs, "seed": seed, "rate": rate, "steps": schedule.steps,
        "macs": run.space.lower(arch, run.num_classes).macs, "resolution": arch.resolution, "seconds_of_this_call": seconds,
        "before": asdict(evaluate_network(before, run.eval_batches(splits.held_out, arch.resolution))),
        "after": asdict(measured(splits.held_out)), "running": asdict(running), "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    if test:
        images = run.open_test(splits, f"benchmarks/finetune.py {path.stem}")
        facts["test_before"] = asdict(evaluate_network(before, run.eval_batches(images, arch.resolution)))
        facts["test_after"] = asdict(measured(images))
    write_json(path, facts)
    print(row(facts), flush=True)
    append_line(out / "finished.jsonl", {"name": path.stem, "seconds": seconds})


def row(facts: dict[str, Any]) -> str:
    def points(before: str, after: str) -> str:
        if after not in facts:
            return "| | "
        a, b = 100 * facts[before]["top1"], 100 * facts[after]["top1"]
        return f"| {a:.1f} | {b:.1f} ({b - a:+.1f}) "

    loss = f"{facts['before']['loss']:.3f} → {facts['after']['loss']:.3f}"
    recipe = f"`{facts['recipe']}` | {facts['rate']:.2g} | {facts['epochs']} | {facts['seed']}"
    running = f"{100 * facts['running']['top1']:.1f}"
    head = f"| {facts['network']} | {facts['macs'] / 1e6:.1f} | {recipe} "
    return head + points("before", "after") + f"| {running} | {loss} " + points("test_before", "test_after") + "|"


def report(out: Path) -> None:
    columns = [
        "network",
        "M MACs",
        "recipe",
        "rate",
        "epochs",
        "seed",
        "held-out before, %",
        "after",
        "running",
        "loss",
        "test before, %",
        "after",
    ]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    found = [read_json(path) for path in sorted(out.glob("*.json"))]
    for facts in sorted(found, key=lambda f: (f["network"], f["epochs"], list(RECIPES).index(f["recipe"]), f["seed"])):
        print(row(facts))
    for recipe in RECIPES:
        gains = [100 * (f["after"]["top1"] - f["before"]["top1"]) for f in found if f["recipe"] == recipe]
        if gains:
            print(f"{recipe}: mean gain {np.mean(gains):+.2f} points on held-out images (n = {len(gains)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default="smallest,0.26,0.45")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="open the test images too")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    make_folder(arguments.out)
    if not arguments.report:
        run = Run.open(arguments.run)
        splits = run.splits()
        for seed in arguments.seeds.split(","):
            for recipe in arguments.recipes.split(","):
                for name in arguments.networks.split(","):
                    tune(run, splits, name, recipe, arguments.epochs, int(seed), arguments.out, test=arguments.test)
    report(arguments.out)


if __name__ == "__main__":
    main()
