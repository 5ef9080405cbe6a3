"""Accuracy against cost: a chart for each device, and one for MACs, which do not depend on the device."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from ..accuracy import AccuracyPredictor
from ..arch import Arch
from ..common.readable import amount, milliseconds, percent
from ..common.records import read_record, read_records
from ..costs import CostTable, macs_table, segment_table
from ..latency import LatencyTable
from ..pipeline.run_directory.finalists import Finalist, MeasuredFront
from ..pipeline.run_directory.run import Run
from ..published import KNOWN_NETWORKS, OFA_NETWORKS
from ..resolutions import in_pixels
from ..search import Objectives, pareto
from .charts import FrontSeries, Mark, front_chart
from .drawing import MACS, MS, Point
from .html import html
from .shown import Chosen, Fronts, Shown, lacking, no_device, score_axis

FRONT_EVALUATIONS = 150_000
CLOUD = 400  # random networks behind the front
IMAGENET_CLASSES = 1000
DOUBTFUL = 0.005  # an implausible loss of predicted accuracy from one resolution to the next larger one
KINDS = {
    "measured": "found and measured on held-out images",
    "elsewhere": "published for another device, predicted here",
    "published": "as published",
}

Known = Mapping[tuple[Arch, str], tuple[str, float, float]]  # network and device -> name, ms, held-out top-1


def read_fronts(run: Run, predictor: AccuracyPredictor, tables: Sequence[LatencyTable], seed: int) -> Fronts:
    """Fronts of latency on each device and of MACs."""
    known, macs = _known_networks(run), macs_table(segment_table(run.space, run.num_classes))
    fronts: Fronts = {(table.device.spec, table.hardware): _front(run, predictor, table, known, seed) for table in tables}
    return {**fronts, (None, ""): _front(run, predictor, macs, known, seed)}


def _front(run: Run, predictor: AccuracyPredictor, cost: LatencyTable | CostTable, known: Known, seed: int) -> FrontSeries:
    objectives: Objectives = {"top1": (predictor.score, "max"), "cost": (cost.estimate, "min")}
    best = pareto(run.space, objectives, seed=seed, size=100, evaluations=FRONT_EVALUATIONS).points
    cloud = run.space.sample_genes(np.random.default_rng([seed, 8]), CLOUD)
    table = cost if isinstance(cost, LatencyTable) else None
    measured = {  # each network once, even if measured on several devices
        arch: Point(name, ms if table is not None else float(cost.estimate([arch])[0]), top1)
        for (arch, device), (name, ms, top1) in known.items()
        if table is None or device == str(table.device)
    }
    elsewhere = dict[Arch, Point]()
    for network in OFA_NETWORKS:
        arch = network.arch(run.space)
        if arch is not None and arch not in elsewhere:
            name = f"{network.name} (published at {in_pixels(network.resolution)}, here at {in_pixels(arch.resolution)})"
            elsewhere[arch] = Point(name, float(cost.estimate([arch])[0]), float(predictor.predict([arch])[0]))
    published = list[Point]()
    if table is None and _is_imagenet(run):
        published = [Point(f"OFA {n.name} ({in_pixels(n.resolution)}, fine-tuned)", n.macs, n.top1) for n in OFA_NETWORKS]
        published += [Point(f"{n.name} ({n.source})", n.macs, n.top1) for n in KNOWN_NETWORKS]
    return FrontSeries(
        "",
        random=list(zip(cost.estimate(cloud).tolist(), predictor.predict(cloud).tolist(), strict=True)),
        front=[(p.values["cost"], min(1.0, max(0.0, p.values["top1"]))) for p in best],
        measured=list(measured.values()),
        elsewhere=list(elsewhere.values()),
        published=published,
    )


def predictor_doubts(run: Run, predictor: AccuracyPredictor, seed: int) -> list[str]:
    """A warning if an imported, unchecked predictor predicts that larger images make networks less accurate."""
    if predictor.kind != "published":
        return []
    genes, means = run.space.sample_genes(np.random.default_rng([seed, 8]), CLOUD), list[float]()
    for index in range(len(run.space.resolutions)):
        genes[:, 0] = index
        means.append(float(predictor.predict(genes).mean()))
    falls = [(a - b, *at) for a, b, at in zip(means, means[1:], pairwise(run.space.resolutions), strict=False)]
    fall, before, after = max(falls, default=(0.0, 0, 0))
    if fall < DOUBTFUL:
        return []
    warning = (
        f"The imported predictor rates the same {CLOUD} networks {100 * fall:.1f} points lower at {after} than at {before} pixels: "
        f"it was probably not fitted to {before} pixels and less, so do not trust the fronts there"
    )
    return [warning]


def _known_networks(run: Run) -> Known:
    """Networks measured by searches; of several measurements on a device, the last one on the most images."""
    known, images = dict[tuple[Arch, str], tuple[str, float, float]](), dict[tuple[Arch, str], int]()
    every = run.info.images.get("held-out", 0)
    for one in read_records(run.folder / "searches.jsonl", Finalist):
        key, n = (one.arch, one.device), every if one.held_out_images is None else one.held_out_images
        if n >= images.get(key, 0) and one.metric in (None, run.metric):
            known[key], images[key] = (f"finalist for {one.budget}", one.measured_ms, one.held_out), n
    if (path := run.folder / "front.json").exists():
        front = read_record(path, MeasuredFront)
        for point in front.points:
            known[point.arch, front.device] = ("of the measured front", point.measured_ms, point.held_out)
    return {key: values for key, values in known.items() if key[0] in run.space}


def _is_imagenet(run: Run) -> bool:
    """Whether accuracies are comparable with published ones: the authors' weights without images, or ImageNet's classes."""
    named = run.info.data is None or all(re.fullmatch(r"n\d{8}", name) for name in run.info.classes)
    return run.num_classes == IMAGENET_CLASSES and named


def fronts(runs: Sequence[Shown]) -> Markup:
    """For each device: random networks, the front, the chosen networks as measured, and published ones."""
    missing = lacking(runs, lambda run: not run.fronts, "Latency and accuracy cannot be predicted yet.", "predict {run}")
    keys = list(dict.fromkeys(key for run in runs for key in run.fronts))
    if not keys:
        return missing
    missing += no_device(runs, lambda run: bool(run.fronts) and not run.tables)
    keys.sort(key=lambda key: key[0] is None)
    return Markup(html.soft(_words(runs)) + html.pair([_chart(runs, *key) for key in keys]) + missing)


def _words(runs: Sequence[Shown]) -> str:
    others = list(dict.fromkeys(run.predictor for run in runs if run.predictor is not None))
    how = f"by {', '.join(others)}, not for the images of this run" if others else "for held-out images"
    words = "Dots: random networks of the space. Line: the best network that the search found at each cost. Both are predicted "
    words += f"{how}. The best of very many predictions is usually too high, so measured networks lie below the line. "
    words += "Diamonds: the chosen networks as measured on test images."
    if any(series.elsewhere for run in runs for series in run.fronts.values()):
        words += (
            " Triangles: kernels, ratios and depths that the Once-for-All authors published for other devices, with a width and "
            "resolution of this space and the weights of this run, also predicted."
        )
    if any(series.published for run in runs for series in run.fronts.values()):
        words += " Squares: published top-1 on ImageNet, from other trainings."
        if others:
            words += (
                " The authors' predictor was fitted to images held out of ImageNet's training images, on which accuracies are "
                "higher, so its predictions cannot be compared with the squares."
            )
    else:
        words += " Published accuracies are not shown: they are for ImageNet, and no run here is."
    return words


def _chart(runs: Sequence[Shown], device: str | None, hardware: str) -> Markup:
    axis, unit = (MACS, amount) if device is None else (MS, milliseconds)
    series, rows, budgets = list[FrontSeries](), list[list[str]](), set[float]()
    for run in runs:
        name = "" if run.alone else run.name
        front = run.fronts.get((device, hardware))
        if front is None:  # an empty series, so that each run has the same color in all charts
            series.append(FrontSeries(name))
            continue
        here = [one for one in run.chosen if device is None or one.device == device]
        limits = {one.made.budget.latency_ms for one in here} if device is not None else set()
        budgets |= {limit for limit in limits if limit is not None}
        front = replace(front, name=name, chosen=[_point(one, run.run.metric, device is None) for one in here])
        series.append(front)
        rows += [[run.label(point.name), "chosen", unit(point.x), percent(point.y)] for point in front.chosen]
        for kind, points in (("measured", front.measured), ("elsewhere", front.elsewhere), ("published", front.published)):
            ordered = sorted(points, key=lambda point: point.x)
            rows += [[run.label(point.name), KINDS[kind], unit(point.x), percent(point.y)] for point in ordered]
        rows += [[run.label("front"), "predicted", unit(cost), percent(top1)] for cost, top1 in sorted(front.front)]
    score = score_axis(runs)
    what = score.label if score.label[1:2].isupper() else f"{score.label[0].upper()}{score.label[1:]}"  # mAP stays
    name = f"{what} against MACs" if device is None else f"{what} against latency on {device}"
    marks = [Mark(f"{budget:g} ms", budget) for budget in sorted(budgets)]
    description = f"Predicted {score.label} in percent against {axis.title}; the table has every named network and the fronts."
    chart = front_chart(series, axis, score, name=name, marks=marks, description=description)
    header = ["network", "what", "MACs" if device is None else "latency", score.label]
    return Markup(html.figure(name + (f" ({hardware})" if hardware else ""), chart, html.table(name, header, rows, 2)))


def _point(one: Chosen, metric: str, by_macs: bool) -> Point:
    latency, (value, interval) = one.made.latency, one.score(metric)
    interval = interval or (value, value)
    if by_macs:
        return Point(one.name, one.plan.macs, value, None, interval)
    return Point(one.name, latency.ms, value, (latency.low, latency.high), interval)
