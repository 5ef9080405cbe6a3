"""Uneven classes: what class weights in the loss (`--recipe balance=B`) do to balanced accuracy and to top-1.

    python benchmarks/uneven.py --data FOLDER --from NET --out OUT [--sets magtile,wbc] [--balance 0,0.5,1] [--seed 0]

Each data set (a folder in FOLDER) is trained from the network's weights by the preset `pretrained`, the same steps with each value.
Then the largest, the smallest and 6 random sub-networks are evaluated on the held-out images, by which a value would be chosen, and
on the test images. A finished training leaves a line in OUT/uneven.jsonl; started again, it goes on where it was. Results:
docs/results/uneven.md.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from onceforall.common.files import append_line, read_lines
from onceforall.common.progress import Progress
from onceforall.pipeline import Run, evaluate, train
from onceforall.scores import imbalance

EPOCHS = {"magtile": 12.0, "wbc": 40.0}
RESOLUTIONS = (64, 96)


def told(event: dict[str, object]) -> None:
    if event["event"] in ("note", "validation"):
        print(json.dumps(event), flush=True)


def one(name: str, balance: float, arguments: argparse.Namespace) -> dict[str, object]:
    """Train and evaluate."""
    out = arguments.out / f"{name}-{balance:g}-{arguments.seed}"
    train(
        str(arguments.data / name), out=out, from_run=arguments.start, space={"resolutions": RESOLUTIONS}, epochs=EPOCHS[name],
        holdout=arguments.holdout, recipe={"balance": balance}, metric="balanced", seed=arguments.seed, resume=True,
        progress=Progress(event=told),
    )  # fmt: skip
    record: dict[str, object] = {"data": name, "balance": balance, "seed": arguments.seed, "threads": torch.get_num_threads()}
    record["imbalance"] = imbalance(Run.open(out).splits().train.labels)
    for split in ("held-out", "test"):
        found = [result for arch in ("largest", "smallest", "random:6") for result in evaluate(out, arch=arch, split=split)]
        record[split] = {
            metric: {"mean": float(np.mean([r.accuracy.score(metric) for r in found])), "largest": found[0].accuracy.score(metric)}
            for metric in ("balanced", "top1", "macro_f1")
        } | {"images": found[0].accuracy.images, "majority": found[0].confusion.majority}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--from", dest="start", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="magtile,wbc")
    parser.add_argument("--balance", default="0,0.5,1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holdout", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    place = arguments.out / "uneven.jsonl"
    for name in arguments.sets.split(","):
        for balance in map(float, arguments.balance.split(",")):
            known = read_lines(place)
            if not any((r["data"], r["balance"], r["seed"]) == (name, balance, arguments.seed) for r in known):
                append_line(place, one(name, balance, arguments))
    print("| data | balance | held-out balanced, mean of 8 | largest | test balanced, mean of 8 | largest | test top-1, largest |")
    print("|---|---|---|---|---|---|---|")
    for r in read_lines(place):
        held, test = r["held-out"], r["test"]
        cells = [held["balanced"]["mean"], held["balanced"]["largest"], test["balanced"]["mean"], test["balanced"]["largest"]]
        shown = " | ".join(f"{100 * cell:.1f}" for cell in (*cells, test["top1"]["largest"]))
        print(f"| {r['data']}, {r['imbalance']:.0f}:1 | {r['balance']:g} | {shown} |")


if __name__ == "__main__":
    main()
