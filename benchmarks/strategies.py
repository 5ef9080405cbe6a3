"""Every way to train with the same compute, and some sub-networks alone: which is worth the money?

    python benchmarks/strategies.py DATA --out FOLDER [--macs 40e12] [--schemes NAME,NAME…] [--batch 64] [--threads 2]
    python benchmarks/strategies.py DATA --out FOLDER --from FILE.py:FUNCTION --resolutions 64,96,128 [--seed 0] …

Each scheme of `onceforall.train.SCHEMES` trains the same space from the same weights until it has spent `--macs` multiply-
accumulates (forward and backward count three forward passes; teachers and best-up's candidates count as well). "largest-alone"
spends them on the largest network. 16 fixed sub-networks, from the smallest to the largest, are then recalibrated and measured
on the held-out and the test images. Four of them are trained alone, from scratch, for as many steps as progressive shrinking gives
to the largest network.

With `--batch` other than 64 the learning rate goes with the square root of the batch, and the batch is added to the name: a
scheme of several networks a step takes as many steps as one of a single network when its batch is smaller.

With `--from` the space is that of a network with trained weights, which all schemes start from after its channels were ranked on
training images; recipe and batch (32) are those of the preset "pretrained", the largest network alone is one of the schemes
("largest-alone"), and the 16 networks differ in resolution too. `--recipe` and `--rate` change the recipe, which is added to the
name. Held-out images are 30 % of the training images.

Every finished training leaves FOLDER/NAME.json; a second call goes on where the first stopped, also within a training. `--report`
prints the table from what is there, best on the held-out images first, and draws FOLDER/strategies.svg. Results:
docs/results/strategies.md.
"""

import argparse
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onceforall
from onceforall import Arch, Space, Supernet
from onceforall.calibrate import evaluate_network, recalibrate
from onceforall.common.files import read_json, write_json
from onceforall.common.progress import Progress
from onceforall.common.statistics import kendall_tau
from onceforall.costs import macs_table, segment_table
from onceforall.data import Augment, Preprocessing, Splits, TrainBatches, calibration_batches, eval_batches, open_data
from onceforall.options.presets import PRESETS as CHOICES
from onceforall.options.presets import SHORT_EPOCHS, SHORT_RATES, choose_preset
from onceforall.options.values import recipe_values
from onceforall.pipeline.training.own import OwnNetwork, bring_own, started
from onceforall.report.charts import line_chart
from onceforall.report.drawing import Axis, Series
from onceforall.report.html import PAGES
from onceforall.space import Choices
from onceforall.supernets.importance import rank_units
from onceforall.train import SCHEMES, Recipe, Schedule, Settings, Trainer, work_per_step
from onceforall.train.checkpoint import latest
from onceforall.train.schemes import progressive_shrinking, single_path
from onceforall.train.state import load_weights

PRESETS: dict[str, dict[str, Any]] = {
    "cifar": {
        "space": {"width": 0.25, "resolutions": (24, 28, 32), "strides": (1, 1, 2, 2, 2, 1, 1), "depths": (1, 2, 3)},
        "size": 32, "crop_share": 1.0, "augment": Augment(crop_scale=(0.5, 1.0)),
    },
    "imagenette": {
        "space": {"width": 0.35, "resolutions": (64, 80, 96), "strides": (2, 1, 2, 2, 2, 1, 1), "depths": (1, 2, 3)},
        "size": 110, "crop_share": 0.875, "augment": Augment(crop_scale=(0.35, 1.0)),
    },
}  # fmt: skip
RECIPE = Recipe(batch_size=64, optimizer="adamw", weight_decay=0.03, dropout=0.0)
RATE = 0.002  # at a batch of 64
SUBNETS = 16
ALONE = (0, 5, 10, 15)
WARMUPS = dict.fromkeys(SHORT_RATES, 0.05)  # of progressive shrinking, as the presets for short schedules otherwise


def fixed_networks(space: Space, num_classes: int, *, resolutions: Sequence[int] = ()) -> list[Arch]:
    """The smallest, the largest and 14 between, evenly spaced in the logarithm of MACs, each alike within a stage.

    All at the largest resolution, or drawn from `resolutions`.
    """
    rng, resolution = np.random.default_rng(42), space.resolutions[-1]
    sizes = np.array([len(column.choices) for column in space.columns])
    pool = [space.smallest(min(resolutions, default=resolution)), space.largest(resolution)]
    for level in rng.random(2000):
        picks = iter(rng.binomial(sizes - 1, level))
        resolution = int(rng.choice(resolutions)) if resolutions else resolution
        stages = []
        for c in space.stages:
            next(picks)
            offered = (c.widths, c.depths, c.kernels, c.expand_ratios, c.heads)
            stage = Choices(*((options[min(next(picks), len(options) - 1)],) for options in offered))
            stages.append(stage)
        pool.append(replace(space, stages=tuple(stages)).largest(resolution))
    kept = space if resolutions else space.restrict(resolutions=(resolution,))
    macs = macs_table(segment_table(kept, num_classes)).estimate(pool)
    chosen = [0]
    for target in np.geomspace(macs[0], macs[1], SUBNETS)[1:-1]:
        near = np.argsort(np.abs(macs - target), kind="stable")
        chosen.append(next(int(i) for i in near if i > 1 and i not in chosen))
    return [pool[i] for i in [*chosen, 1]]


def single(space: Space, arch: Arch) -> Space:
    """The space of one network that is alike within a stage, at all resolutions."""
    stages = [Choices((s.width,), (s.depth,), (s.blocks[0].kernel,), (s.blocks[0].expand_ratio,)) for s in arch.stages]
    return replace(space, stages=tuple(stages))


def scheme(name: str, space: Space, steps: int, batch: int = RECIPE.batch_size) -> Schedule:
    recipe = replace(RECIPE, batch_size=batch)
    rate = RATE * (batch / RECIPE.batch_size) ** 0.5
    if name == "progressive_shrinking":
        made = progressive_shrinking(
            space, steps=steps, rate=rate, recipe=recipe, epochs=SHORT_EPOCHS, rates=SHORT_RATES, warmups=WARMUPS,
            subnets={"kernel": 1, "depth": 2, "expand": 2},
        )  # fmt: skip
        return made
    if name == "coupled":
        made = SCHEMES[name](space, steps=steps, rate=rate, recipe=recipe)
        rates = (1.0, 0.2, 0.4)
        return replace(made, phases=tuple(replace(p, rate=rate * r) for p, r in zip(made.phases, rates, strict=True)))
    return SCHEMES[name](space, steps=steps, rate=rate, recipe=recipe)


def steps_for(name: str, space: Space, num_classes: int, macs: float, batch: int = RECIPE.batch_size) -> int:
    return max(10, round(1000 * macs / spent(scheme(name, space, 1000, batch), space, num_classes)))


def spent(schedule: Schedule, space: Space, num_classes: int) -> float:
    return sum(w * p.steps for w, p in zip(work_per_step(schedule, space, num_classes), schedule.phases, strict=True))


def run(
    name: str,
    space: Space,
    schedule: Schedule,
    splits: Splits,
    preset: dict[str, Any],
    archs: list[Arch],
    out: Path,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    if (out / f"{name}.json").exists():
        return
    pixels = preset.get("pixels") or Preprocessing(crop_share=preset["crop_share"])
    seed = preset.get("seed", 0)
    batches = TrainBatches(splits.train, schedule.recipe.batch_size, seed, preset["augment"], pixels, classes=len(splits.classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supernet = Supernet(space, len(splits.classes))
    if weights is not None:
        load_weights(supernet, weights)
    started = time.monotonic()

    def log(event: dict[str, Any]) -> None:
        if event["step"] % 200 == 0 or event["event"] != "train":
            print(f"{name}: {event}", flush=True)

    folder = out / f"{name}-training"
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(seed=seed, validate_every=10**9)
    Trainer(supernet, schedule, batches.batch, folder, progress=Progress(event=log), settings=settings).run(
        latest(folder / "checkpoints")
    )
    rows = []
    test = splits.open_test(f"benchmarks/strategies.py {name}")
    for arch in archs:
        ready = recalibrate(supernet.extract(arch), calibration_batches(splits.train, arch.resolution, 1000, 125, 0, pixels))
        accuracies = {
            split: evaluate_network(ready, eval_batches(images, arch.resolution, 250, pixels)).top1
            for split, images in (("held_out", splits.held_out), ("test", test))
        }
        rows.append({"macs": space.lower(arch, len(splits.classes)).macs, **accuracies})
    facts = {
        "name": name, "steps": schedule.steps, "macs": spent(schedule, space, len(splits.classes)), "rows": rows,
        "seconds_of_this_call": time.monotonic() - started, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(), "images": {"test": len(test), "held_out": len(splits.held_out)},
    }  # fmt: skip
    write_json(out / f"{name}.json", facts)


def start_of(own: OwnNetwork, splits: Splits, pixels: Preprocessing) -> Supernet:
    """The network that someone brought, elastic, its channels ranked on training images, with a new classifier."""
    torch.manual_seed(0)
    supernet = Supernet(own.supernet.space, len(splits.classes))
    load_weights(supernet, started(own, supernet)[0])
    chosen = splits.train.subset(np.random.default_rng(0).permutation(len(splits.train))[:256])
    rank_units(supernet.eval(), None, [images for images, _ in eval_batches(chosen, supernet.space.resolutions[-1], 64, pixels)])
    return supernet


def from_weights(arguments: argparse.Namespace) -> None:
    """All schemes from the same trained weights."""
    resolutions = [int(text) for text in arguments.resolutions.split(",")]
    recipe = choose_preset("pretrained", rate=arguments.rate, recipe=recipe_values(arguments.recipe))
    splits = open_data(
        arguments.data, size=round(resolutions[-1] / recipe.crop_share), limit=arguments.limit, holdout=0.3, seed=arguments.seed
    )
    own = bring_own(arguments.source, choices={"widths": (0.5, 0.75, 1), "resolutions": resolutions})
    pixels = Preprocessing(own.brought.mean, own.brought.std, recipe.crop_share)
    supernet = start_of(own, splits, pixels)
    space, classes, weights = supernet.space, len(splits.classes), supernet.state_dict()
    preset = {"augment": recipe.augment, "pixels": pixels, "seed": arguments.seed}
    archs = fixed_networks(space, classes, resolutions=resolutions)
    for name in arguments.schemes.split(","):
        if name == "largest-alone":
            keep = dict.fromkeys(Choices.__dataclass_fields__, 1)

            def made(steps: int) -> Schedule:
                phase = single_path(space, steps=steps, rate=recipe.rate, recipe=recipe.recipe).phases[0]
                return Schedule((replace(phase, keep=keep),), recipe.recipe)  # noqa: B023  # called at once
        else:

            def made(steps: int) -> Schedule:
                return replace(recipe, scheme=name, options=CHOICES["imagenette-60m"].options).schedule(space, steps)  # noqa: B023

        steps = max(10, round(1000 * arguments.macs / spent(made(1000), space, classes)))
        changes = [arguments.recipe.replace("/", "-")] * bool(arguments.recipe) + [f"rate={arguments.rate}"] * bool(arguments.rate)
        run("+".join([name, *changes]), space, made(steps), splits, preset, archs, arguments.out, weights)
    report(arguments.out)


def report(out: Path) -> None:
    found = {path.stem: read_json(path) for path in sorted(out.glob("*.json"))}
    alone = {i: found[f"alone-{i}"]["rows"][0] for i in ALONE if f"alone-{i}" in found}
    columns = [
        "trained by",
        "steps",
        "MACs spent, 10^12",
        "held-out mean of 16, %",
        "test mean of 16, %",
        "worst, %",
        "smallest, %",
    ]
    columns += ["largest, %", "better than alone, points", "worst of these", "tau with alone"]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    shared = {name: facts for name, facts in found.items() if not name.startswith("alone") and name != "largest-alone"}
    for name, facts in sorted(shared.items(), key=lambda item: -sum(row["held_out"] for row in item[1]["rows"])):
        held_out, top1 = ([100 * row[split] for row in facts["rows"]] for split in ("held_out", "test"))
        gaps = [top1[i] - 100 * row["test"] for i, row in alone.items()]
        tau = kendall_tau(np.array([top1[i] for i in alone]), np.array([row["test"] for row in alone.values()])) if gaps else 0.0
        compared = f"{np.mean(gaps):+.1f} | {min(gaps):+.1f} | {tau:.2f}" if gaps else "| |"
        print(
            f"| `{name}` | {facts['steps']:,} | {facts['macs'] / 1e12:.1f} | {np.mean(held_out):.1f} | {np.mean(top1):.1f} | "
            f"{min(top1):.1f} | {top1[0]:.1f} | {top1[-1]:.1f} | {compared} |"
        )
    if "largest-alone" in found:
        facts = found["largest-alone"]
        top1 = 100 * facts["rows"][0]["test"]
        print(f"| largest, alone | {facts['steps']:,} | {facts['macs'] / 1e12:.1f} | | | | | {top1:.1f} | | | |")
    for i, row in alone.items():
        steps = found[f"alone-{i}"]["steps"]
        print(f"alone, {steps:,} steps: network {i + 1} of {SUBNETS}, {row['macs'] / 1e6:.1f} M MACs: {100 * row['test']:.1f} %")
    draw(out / "strategies.svg", shared, list(alone.values()))


def draw(path: Path, shared: dict[str, Any], alone: list[dict[str, float]]) -> None:
    """Test accuracy against MACs, a line for each way to train; light colors only, for a document."""
    rows = {name: facts["rows"] for name, facts in shared.items()} | ({"each alone": alone} if alone else {})
    lines = [Series(name, [r["macs"] / 1e6 for r in own], [100 * r["test"] for r in own]) for name, own in rows.items()]
    chart = line_chart(
        lines, Axis("multiply-accumulates of the sub-network", "millions"), Axis("test top-1", "%"), name="strategies"
    )
    style = PAGES.get_template("style.css").render().partition("@media")[0] + PAGES.get_template("charts.css").render()
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" '
    path.write_text(str(chart).replace("<svg ", head, 1).replace(">", f"><style>{style}</style>", 1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--preset", choices=PRESETS, default="cifar")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--macs", type=float, default=40e12)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--batch", type=int, default=RECIPE.batch_size, help="of the schemes, not of the networks alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-alone", action="store_true", help="leave out the sub-networks that are trained alone")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--from", dest="source", help="a network with trained weights, see docs/own-networks.md")
    parser.add_argument("--recipe", default="", help="with --from: changes of the recipe, such as mixup=0.2,ema=0.99")
    parser.add_argument("--rate", type=float, help="with --from: peak learning rate")
    parser.add_argument("--resolutions", default="64,96,128", help="of that network")
    parser.add_argument("--seed", type=int, default=0, help="of that network's trainings and held-out images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.report:
        report(arguments.out)
        return
    if arguments.source is not None:
        from_weights(arguments)
        return
    preset = PRESETS[arguments.preset]
    space = onceforall.space("mobilenet_v3", **preset["space"])
    splits = open_data(arguments.data, size=preset["size"], limit=arguments.limit)
    classes = len(splits.classes)
    archs = fixed_networks(space, classes)
    print(f"{len(splits.train)} training images, {space.count():.3g} networks, ", end="")
    print(f"{space.lower(archs[0], classes).macs / 1e6:.2f} to {space.lower(archs[-1], classes).macs / 1e6:.2f} M MACs")
    for name in arguments.schemes.split(","):
        schedule = scheme(name, space, steps_for(name, space, classes, arguments.macs, arguments.batch), arguments.batch)
        label = name if arguments.batch == RECIPE.batch_size else f"{name}-b{arguments.batch}"
        run(label, space, schedule, splits, preset, archs, arguments.out)
    if arguments.no_alone:
        return
    shrinking = scheme("progressive_shrinking", space, steps_for("progressive_shrinking", space, classes, arguments.macs))
    for i in ALONE:
        own = single(space, archs[i])
        schedule = single_path(own, steps=shrinking.phases[0].steps, rate=RATE, recipe=RECIPE)
        run(f"alone-{i}", own, schedule, splits, preset, [archs[i]], arguments.out)
    own = single(space, archs[-1])
    steps = round(arguments.macs / work_per_step(single_path(own, steps=10, rate=RATE, recipe=RECIPE), own, classes)[0])
    run("largest-alone", own, single_path(own, steps=steps, rate=RATE, recipe=RECIPE), splits, preset, [archs[-1]], arguments.out)
    report(arguments.out)


if __name__ == "__main__":
    main()
