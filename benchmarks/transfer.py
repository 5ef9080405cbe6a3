"""Is it worth starting from another run? The same space and number of steps, from random weights and with `ofa train --from`.

    python benchmarks/transfer.py DATA --from RUN --out FOLDER [--limit 1000] [--epochs 40] [--shares 1,0.5,0.25] [--seeds 0,1,2]

Each share is that of the preset's peak learning rate; "scratch" takes the whole rate. The largest, the smallest and four random
sub-networks are measured on the held-out images. `--test` measures the trainings whose share is `RATE_SHARE`, and those from
scratch, on the test images: once.

Every finished training leaves FOLDER/NAME.json; a second call goes on where the first stopped. `--report` prints the table from
what is there. Results: docs/results/transfer.md.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.common.files import make_folder, read_json, read_lines, write_json
from onceforall.options.presets import PRESETS
from onceforall.pipeline import Run, evaluate, train
from onceforall.pipeline.training.transfer import RATE_SHARE, recipe_of

RANDOM = 4


def one(name: str, arguments: argparse.Namespace, options: dict[str, Any], *, test: bool) -> None:
    path = arguments.out / f"{name}.json"
    facts: dict[str, Any] = read_json(path) if path.exists() else {}
    started = time.monotonic()
    if not facts:
        out = arguments.out / name
        run = train(
            arguments.data, out=out, epochs=arguments.epochs, limit=arguments.limit, holdout=arguments.holdout, resume=True,
            **options,
        )  # fmt: skip
        facts = {"name": name, "images": run.info.images, "seconds": max(r["seconds"] for r in read_lines(out / "metrics.jsonl"))}
        facts["steps"] = max(r["step"] for r in read_lines(out / "metrics.jsonl"))
    for split in ("held-out", "test") if test else ("held-out",):
        if split not in facts:
            chosen = [r for arch in ("largest", "smallest", f"random:{RANDOM}")
                      for r in evaluate(arguments.out / name, arch=arch, split=split)]  # fmt: skip
            facts[split] = {r.name: r.accuracy.top1 for r in chosen}
    write_json(path, facts)
    print(json.dumps(facts), f"{time.monotonic() - started:.0f} s", flush=True)


def report(out: Path) -> None:
    print("| start | seeds | steps | held-out: largest | smallest | mean of 6 | test: largest | smallest | mean of 6 |")
    print("|---" * 9 + "|")
    found = [read_json(path) for path in sorted(out.glob("*.json"))]
    for start in dict.fromkeys(facts["name"].rpartition("-")[0] for facts in found):
        own = [facts for facts in found if facts["name"].rpartition("-")[0] == start]
        cells = []
        for split in ("held-out", "test"):
            rows = [facts[split] for facts in own if split in facts]
            values = {"largest": [r["largest"] for r in rows], "smallest": [r["smallest"] for r in rows]}
            values["mean"] = [float(np.mean(list(r.values()))) for r in rows]
            cells += [f"{100 * np.mean(v):.1f} ± {100 * np.std(v):.1f}" if rows else "" for v in values.values()]
        print(f"| {start} | {len(own)} | {own[0]['steps']} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--from", dest="origin", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--holdout", type=float, default=0.3)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--shares", default="1,0.5,0.25")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    make_folder(arguments.out)
    if not arguments.report:
        origin = Run.open(arguments.origin)
        preset, space = recipe_of(origin), origin.info.space["arguments"]
        for seed in map(int, arguments.seeds.split(",")):
            for share in map(float, arguments.shares.split(",")):
                rate = share * PRESETS[preset].rate
                options = {"from_run": arguments.origin, "rate": rate, "seed": seed}
                one(f"from-{share:g}-{seed}", arguments, options, test=arguments.test and share == RATE_SHARE)
            options = {"preset": preset, "space": space, "seed": seed}
            one(f"scratch-{seed}", arguments, options, test=arguments.test)
    report(arguments.out)


if __name__ == "__main__":
    main()
