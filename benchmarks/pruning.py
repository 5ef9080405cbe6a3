"""Pruning tools against sub-networks of one elastic training, at the same multiply-accumulates and for the same training compute.

    pip install torch-pruning nvidia-modelopt      # in an environment that has onceforall; neither is a dependency of it
    python benchmarks/pruning.py RUN --from FILE.py:FUNCTION --pixels 128 --out OUT [--shares 0.5,0.25]

RUN is a finished `ofa train --from` of the same network, with a predictor. A tool is given the multiply-accumulates of the whole
elastic training: an equal part for the network alone, and for what is left after pruning to each share of its multiply-accumulates.
All of it by the run's images, recipe and half of its peak rate. Ours are what `ofa search` finds within the same numbers. All
networks are recalibrated; test images are opened once.

- Torch-Pruning: channels by the L2 norm of their group, the same share in every layer, the share found by bisection.
- ModelOpt: FastNAS on the network that was trained alone, scored by held-out accuracy.

A tool that cannot do it is a row with its own message. Every trained network stays in OUT; the same command goes on.
Results: docs/results/pretrained.md.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from onceforall.calibrate import Calibrated, evaluate_network, recalibrate
from onceforall.common.files import read_lines, read_text
from onceforall.common.progress import Progress
from onceforall.data import Splits
from onceforall.models import bring
from onceforall.pipeline import Budget, Run, search
from onceforall.pipeline.evaluate import calibrated
from onceforall.train import Schedule, finetune, finetuning, work_per_step

RATE_SHARE = 0.5


def macs_of(network: nn.Module, pixels: int) -> int:
    """As torch counts operations, halved."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(network).eval()(torch.zeros(1, 3, pixels, pixels))
    return counter.get_total_flops() // 2


def with_classifier(network: nn.Module, classes: int) -> nn.Module:
    """The network with a new last linear layer."""
    name, last = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]
    owner, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(owner), leaf, nn.Linear(last.in_features, classes))
    return network


def trained(network: nn.Module, run: Run, splits: Splits, work: float, pixels: int, schedule: Schedule, folder: Path) -> None:
    """Fine-tune in place for so many multiply-accumulates; forward and backward count three forward passes."""
    recipe, rate = schedule.recipe, RATE_SHARE * max(phase.rate for phase in schedule.phases)
    steps = max(1, round(work / (3 * recipe.batch_size * macs_of(network, pixels))))
    batches = run.train_batches(splits, recipe.batch_size)
    finetune(
        network, finetuning(steps, rate=rate, recipe=recipe, distil=False), lambda step: batches.batch(step, pixels), folder=folder,
        steps_per_epoch=batches.batches_per_epoch, num_classes=run.num_classes, seed=run.info.seed,
        progress=Progress(event=lambda event: print(folder.name, event, flush=True) if event["event"] == "epoch" else None),
    )  # fmt: skip


def by_torch_pruning(network: nn.Module, share: float, pixels: int, score: Callable[[nn.Module], float]) -> nn.Module:
    """The widest network of equal shares of channels that keeps the limit."""
    import torch_pruning

    limit, low, high, best = share * macs_of(network, pixels), 0.0, 0.95, None
    x = torch.zeros(1, 3, pixels, pixels)
    for _ in range(8):
        ratio, pruned = (low + high) / 2, copy.deepcopy(network).eval()
        last = [layer for layer in pruned.modules() if isinstance(layer, nn.Linear)][-1]
        settings = {"importance": torch_pruning.importance.GroupMagnitudeImportance(p=2), "ignored_layers": [last], "round_to": 8}
        torch_pruning.pruner.BasePruner(pruned, x, pruning_ratio=ratio, **settings).step()
        if macs_of(pruned, pixels) <= limit:
            high, best = ratio, pruned
        else:
            low = ratio
    if best is None:
        raise ValueError(f"no ratio leaves {share:g} of the multiply-accumulates")
    return best


def by_modelopt(network: nn.Module, share: float, pixels: int, score: Callable[[nn.Module], float]) -> nn.Module:
    """FastNAS."""
    import modelopt.torch.prune

    settings = {"data_loader": [(torch.zeros(2, 3, pixels, pixels), torch.zeros(2))], "score_func": score, "checkpoint": None}
    limit = {"flops": f"{100 * share:g}%"}
    x = torch.zeros(1, 3, pixels, pixels)
    found, _ = modelopt.torch.prune.prune(copy.deepcopy(network), "fastnas", constraints=limit, dummy_input=x, config=settings)
    return found  # type: ignore[no-any-return]


TOOLS = {"Torch-Pruning": by_torch_pruning, "ModelOpt FastNAS": by_modelopt}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--shares", default="0.5,0.25", help="of the multiply-accumulates of the network at these pixels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run, pixels, shares = Run.open(arguments.run), arguments.pixels, [float(text) for text in arguments.shares.split(",")]
    splits, schedule = run.splits(), Schedule.from_json(read_text(arguments.run / "schedule.json"))
    works = work_per_step(schedule, run.space, run.num_classes)
    done = schedule.steps_done(max(int(record["step"]) for record in read_lines(arguments.run / "metrics.jsonl")))
    work = sum(w * steps for w, steps in zip(works, done, strict=True)) / (1 + len(shares))
    torch.manual_seed(run.info.seed)
    network = with_classifier(bring(arguments.source).model, run.num_classes)
    whole = macs_of(network, pixels)

    def ready(pruned: nn.Module) -> Calibrated:
        return recalibrate(pruned, run.calibration_batches(splits, pixels))

    def held_out(pruned: nn.Module) -> float:
        return evaluate_network(ready(copy.deepcopy(pruned)), run.eval_batches(splits.held_out, pixels)).top1

    trained(network, run, splits, work, pixels, schedule, arguments.out / "whole")
    rows: list[tuple[str, float, int, Calibrated, int]] = [("the network alone", 1.0, whole, ready(network), pixels)]
    failed = []
    for tool, prune in TOOLS.items():
        for share in shares:
            try:
                pruned = prune(network, share, pixels, held_out)
            except Exception as error:  # of a tool of others, whatever it is
                failed.append(f"{tool}, {share:g}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
                continue
            name = f"{tool.replace(' ', '-')}-{share:g}"
            trained(pruned, run, splits, work, pixels, schedule, arguments.out / name)
            rows.append((tool, share, macs_of(pruned, pixels), ready(pruned), pixels))
    supernet = run.supernet()
    for share in (1.0, *shares):
        best = search(arguments.run, Budget(macs=share * whole), device="pytorch")[0].arch
        macs = run.space.lower(best, run.num_classes).macs
        rows.append(("ours, by search", share, macs, calibrated(run, supernet, best, splits), best.resolution))
    test = run.open_test(splits, "benchmarks/pruning.py")
    print("| | share | M MACs | px | held-out top-1, % | test top-1, % |\n|---|---|---|---|---|---|")
    for name, share, macs, network_, side in rows:
        found = [100 * evaluate_network(network_, run.eval_batches(images, side)).top1 for images in (splits.held_out, test)]
        print(f"| {name} | {share:g} | {macs / 1e6:.1f} | {side} | {found[0]:.1f} | {found[1]:.1f} |")
    print("\n".join(failed))


if __name__ == "__main__":
    main()
