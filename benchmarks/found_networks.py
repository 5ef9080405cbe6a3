"""Are the networks that a search finds better than others of the same latency? On test images.

    python benchmarks/found_networks.py RUN --out FOLDER [--budgets 5] [--random 200]

RUN has a trained supernet, a profile of `cpu` and a predictor. For each of some budgets, evenly spaced in the logarithm of latency,
the network that `ofa search` chooses; random networks (drawn as a tree from small to large, so that they are measured together);
and networks that are alike everywhere (one depth, kernel and ratio at one resolution), of which each budget gets the slowest that
it allows. All are recalibrated and measured on the test images, which nothing was chosen by. Latency is measured for those found,
estimated for the others.

What is measured is kept in FOLDER/rows.jsonl and not measured again. Prints the table of docs/results/search.md and draws
FOLDER/search.svg.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path

import numpy as np

from onceforall import Arch, Space
from onceforall.accuracy import tree
from onceforall.accuracy.measure import AT_ONCE, measure_together
from onceforall.accuracy.prefix_tree import grow, units
from onceforall.arch import Block, Stage
from onceforall.common.files import append_line, read_lines
from onceforall.common.progress import Progress
from onceforall.costs import segment_table
from onceforall.pipeline import Budget, Run
from onceforall.pipeline.search import Searcher
from onceforall.report.drawing import Axis, Point, dot, frame_of, key_marker, svg
from onceforall.report.html import PAGES


def uniform(space: Space) -> list[Arch]:
    """Every network with one depth, kernel and ratio everywhere; of each, the place in its stage's choices is the same."""
    found = []
    for resolution, d, k, e in product(space.resolutions, *(range(len(space.stages[0].depths)),) * 3):
        stages = []
        for c in space.stages:
            block = Block(c.kernels[min(k, len(c.kernels) - 1)], c.expand_ratios[min(e, len(c.expand_ratios) - 1)])
            stages.append(Stage(c.widths[-1], (block,) * c.depths[min(d, len(c.depths) - 1)]))
        found.append(Arch(resolution, tuple(stages)))
    return list(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", type=int, default=5)
    parser.add_argument("--random", type=int, default=200)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, chosen = arguments.out / "rows.jsonl", arguments.out / "chosen.jsonl"
    run = Run.open(arguments.run)
    ends = Searcher(run, "cpu", [Budget(latency_ms=1.0)]).table
    assert ends is not None
    low, high = ends.estimate([run.space.smallest(), run.space.largest()])
    budgets = [float(f"{b:.2g}") for b in np.geomspace(low, high, arguments.budgets + 2)[1:-1]]
    searcher = Searcher(run, "cpu", [Budget(latency_ms=b) for b in budgets])
    table = searcher.table
    assert table is not None
    for budget in budgets[len(read_lines(chosen)) if chosen.exists() else 0 :]:
        best = searcher.find(
            Budget(latency_ms=budget), finalists=5, seed=0, progress=Progress(say=lambda text: print(text, flush=True))
        )[0]
        append_line(chosen, {"budget": budget, "arch": best.arch.to_json(), "ms": best.timing.ms, "predicted": best.predicted_top1})
    found = read_lines(chosen)
    randoms = tree(run.space, np.random.default_rng(11), arguments.random, segment_table(run.space, run.num_classes))
    alike = uniform(run.space)
    ms = table.estimate(alike)
    simple = [alike[int(np.where(ms <= b, ms, 0).argmax())] for b in budgets if (ms <= b).any()]
    wanted = [*(Arch.from_json(str(line["arch"])) for line in found), *simple, *randoms]
    known = {str(line["arch"]): float(line["test"]) for line in read_lines(rows)} if rows.exists() else {}
    splits = run.splits()
    test = run.open_test(splits, "benchmarks/found_networks.py")
    supernet, new = run.supernet(), [arch for arch in dict.fromkeys(wanted) if arch.to_json() not in known]
    for group in units(grow({arch: run.space.lower(arch, run.num_classes) for arch in new}), AT_ONCE):
        for row in measure_together(
            supernet,
            group,
            lambda resolution: run.calibration_batches(splits, resolution),
            lambda resolution: run.eval_batches(test, resolution),
        ):
            append_line(rows, {"arch": row.arch.to_json(), "test": row.top1})
    known = {str(line["arch"]): float(line["test"]) for line in read_lines(rows)}
    top1 = [100 * known[arch.to_json()] for arch in wanted]
    ours, theirs, others = top1[: len(found)], top1[len(found) : -len(randoms)], np.array(top1[-len(randoms) :])
    latency = table.estimate(randoms)
    print(f"{len(test)} test images, {os.cpu_count()} cores, {searcher.hardware}\n")
    print("| budget, ms | found: ms | predicted | test top-1 | alike everywhere | random within: n | mean | best | share beaten |")
    print("|---|---|---|---|---|---|---|---|---|")
    for i, line in enumerate(found):
        inside = others[latency <= line["budget"]]
        plain = f"{theirs[i]:.1f} %" if i < len(theirs) else ""
        spread = f"{len(inside)} | {inside.mean():.1f} % | {inside.max():.1f} % | {(inside < ours[i]).mean():.0%}"
        predicted = 100 * float(line["predicted"])
        print(f"| {line['budget']} | {line['ms']:.3g} | {predicted:.1f} % | **{ours[i]:.1f} %** | {plain} | {spread} |")
    (arguments.out / "found.json").write_text(json.dumps(found))
    groups = {
        "random": list(zip(latency.tolist(), others.tolist(), strict=True)),
        "alike everywhere": list(zip(table.estimate(simple).tolist(), theirs, strict=True)),
        "found": [(float(line["ms"]), y) for line, y in zip(found, ours, strict=True)],
    }
    spots = [spot for group in groups.values() for spot in group]
    x, y = Axis("latency, ONNX Runtime, one thread", "ms"), Axis("test top-1", "%")
    frame = frame_of([spot[0] for spot in spots], [spot[1] for spot in spots], x, y)
    parts = frame.axes()
    for index, (name, group) in enumerate(groups.items()):
        parts += [dot(frame, Point(name, *spot), index, size=6.0 if name == "found" else 3.0) for spot in group]
    chart = svg(parts, "networks found", [(name, key_marker(index)) for index, name in enumerate(groups)])
    style = PAGES.get_template("style.css").render().partition("@media")[0] + PAGES.get_template("charts.css").render()
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" '
    drawing = str(chart).replace("<svg ", head, 1).replace(">", f"><style>{style}</style>", 1)
    (arguments.out / "search.svg").write_text(drawing + "\n")


if __name__ == "__main__":
    main()
