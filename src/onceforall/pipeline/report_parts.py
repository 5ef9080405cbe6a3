"""What the report tells beyond training: measured and predicted accuracy and latency, fronts, chosen networks, costs."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..accuracy import AccuracyPredictor, AccuracyRow, read_rows
from ..accuracy.choose import NORMAL_90
from ..arch import Arch
from ..costs import CostTable, macs_table, segment_table
from ..errors import FileError, OnceForAllError
from ..files import read_json, read_lines
from ..latency import LatencyTable, checked_networks
from ..looks import channels, look, pixels
from ..options.shared import Budget
from ..picture import draw
from ..plan import Plan
from ..published import KNOWN_NETWORKS, OFA_NETWORKS
from ..readable import wilson
from ..report import (
    AccuracyFacts,
    BlockFacts,
    Check,
    ChosenFacts,
    CostFacts,
    FileFacts,
    FrontFacts,
    LatencyFacts,
    RunFacts,
    Spot,
    Subnet,
)
from ..search import Objectives, pareto
from .predictor import checks, load_predictor
from .run import Run

__all__ = ["accuracy_facts", "chosen_facts", "cost_facts", "front_facts", "latency_facts", "predictor_doubts", "subnets", "whole"]

FRONT_EVALUATIONS = 150_000
CLOUD = 400  # random networks behind the front
IMAGENET_CLASSES = 1000
DOUBTFUL = 0.005  # a fall in accuracy from one resolution to the next larger one


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a file into a `FileError` that names it."""
    try:
        yield
    except OnceForAllError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileError(f"{path}: damaged, edited or of another version of onceforall ({error!r}): see ofa status") from None


def measured_rows(run: Run) -> list[AccuracyRow]:
    """Measured sub-networks of the present weights."""
    known = run.weights_hash() if (run.folder / "supernet.safetensors").exists() else None
    return read_rows(run.folder / "accuracy", run.space, weights_hash=known)


def subnets(run: Run) -> list[Subnet]:
    """The accuracy data."""
    rows = measured_rows(run)
    if not rows:
        return []
    macs = macs_table(segment_table(run.space, run.num_classes)).estimate([row.arch for row in rows])
    return [
        Subnet(row.arch.resolution, sum(row.arch.depths), int(cost), row.top1)
        for row, cost in zip(rows, macs.tolist(), strict=True)
    ]


def accuracy_facts(run: Run) -> AccuracyFacts | None:
    """The accuracy predictor on what it was checked on."""
    with whole(run.folder / "accuracy" / "errors.json"):
        errors, rows = checks(run)
        if not rows:
            return None
        predictor = load_predictor(run)
        means, stds = predictor.predict_with_error([row.arch for row in rows])
        points = [
            Check(
                f"network {i + 1}, {row.arch.resolution} px",
                mean,
                row.top1,
                wilson(row.top1, row.images),
                (max(0.0, mean - NORMAL_90 * std), min(1.0, mean + NORMAL_90 * std)),
            )
            for i, (row, mean, std) in enumerate(zip(rows, means.tolist(), stds.tolist(), strict=True))
        ]
        numbers = {name: float(errors[name]) for name in ("rmse", "kendall_tau", "coverage90")}
        ceiling = errors.get("ceiling")
        return AccuracyFacts(predictor.kind, int(errors["fitted_on"]), int(errors["images"]), points, **numbers, ceiling=ceiling)


def latency_facts(table: LatencyTable, folder: Path) -> LatencyFacts:
    """A latency table on what it was checked on; `folder` has its measurements."""
    errors, known = table.errors, checked_networks(table, folder)
    named: list[tuple[str, tuple[float, float] | None]] = [(f"network {i + 1}", None) for i in range(errors.n)]
    if known is not None:
        named = [(f"network {i + 1}, {arch.resolution} px", interval) for i, (arch, interval) in enumerate(known)]
    points = [
        Check(name, predicted, measured, interval)
        for (name, interval), predicted, measured in zip(named, errors.predicted, errors.measured, strict=True)
    ]
    mape, tau = errors.interval(lambda e: e.mape), errors.interval(lambda e: e.kendall_tau)
    return LatencyFacts(table.device.spec, table.hardware, points, (errors.mape, *mape), (errors.kendall_tau, *tau), errors.bound())


def front_facts(run: Run, tables: list[LatencyTable], seed: int) -> list[FrontFacts]:
    """Fronts of latency on each device and of MACs; nothing without a predictor."""
    if not (run.folder / "accuracy" / "predictor.safetensors").exists():
        return []
    predictor = load_predictor(run)
    found = _found(run)
    costs: list[LatencyTable | CostTable] = [*tables, macs_table(segment_table(run.space, run.num_classes))]
    return [_front(run, predictor, cost, found, seed) for cost in costs]


def _front(
    run: Run,
    predictor: AccuracyPredictor,
    cost: LatencyTable | CostTable,
    found: Mapping[tuple[Arch, str], tuple[str, float, float]],
    seed: int,
) -> FrontFacts:
    objectives: Objectives = {"top1": (predictor.score, "max"), "cost": (cost.estimate, "min")}
    best = pareto(run.space, objectives, seed=seed, size=100, evaluations=FRONT_EVALUATIONS).points
    cloud = run.space.sample_genes(np.random.default_rng([seed, 8]), CLOUD)
    random = list(zip(cost.estimate(cloud).tolist(), predictor.predict(cloud).tolist(), strict=True))
    table = cost if isinstance(cost, LatencyTable) else None
    measured = {  # once, whatever devices it was measured on
        arch: Spot(name, ms if table is not None else float(cost.estimate([arch])[0]), top1)
        for (arch, device), (name, ms, top1) in found.items()
        if table is None or device == str(table.device)
    }
    archs = dict[Arch, Spot]()
    for network in OFA_NETWORKS:
        arch = network.arch(run.space)
        if arch is not None and arch not in archs:
            note = f"published at {network.resolution} px, here at {arch.resolution} px"
            top1, price = float(predictor.predict([arch])[0]), float(cost.estimate([arch])[0])
            archs[arch] = Spot(network.name, price, top1, note)
    published = list[Spot]()
    if table is None and _is_imagenet(run):
        published = [Spot(f"OFA {n.name}", n.macs, n.top1, f"{n.resolution} px, fine-tuned") for n in OFA_NETWORKS]
        published += [Spot(n.name, n.macs, n.top1, n.source) for n in KNOWN_NETWORKS]
    return FrontFacts(
        device=None if table is None else table.device.spec,
        hardware="" if table is None else table.hardware,
        random=random,
        front=[(p.values["cost"], min(1.0, max(0.0, p.values["top1"]))) for p in best],
        measured=list(measured.values()),
        elsewhere=list(archs.values()),
        published=published,
    )


def predictor_doubts(run: Run, seed: int) -> list[str]:
    """What an imported predictor, which was not checked here, says that cannot be: that networks lose by larger images."""
    if not (run.folder / "accuracy" / "predictor.safetensors").exists():
        return []
    predictor = load_predictor(run)
    if predictor.kind != "published":
        return []
    genes, means = run.space.sample_genes(np.random.default_rng([seed, 8]), CLOUD), list[float]()
    for place in range(len(run.space.resolutions)):
        genes[:, 0] = place
        means.append(float(predictor.predict(genes).mean()))
    falls = [(a - b, *at) for a, b, at in zip(means, means[1:], pairwise(run.space.resolutions), strict=False)]
    fall, before, after = max(falls, default=(0.0, 0, 0))
    if fall < DOUBTFUL:
        return []
    text = (
        f"The imported predictor gives the same {CLOUD} networks {100 * fall:.1f} points less at {after} than at {before} pixels: "
    )
    return [text + f"it was probably not fitted to {before} pixels and less, so the fronts are not to be trusted there"]


def _found(run: Run) -> dict[tuple[Arch, str], tuple[str, float, float]]:
    """What searches measured of a network on a device: name, ms, held-out top-1. Of the most images, if it was measured again."""
    found, images = dict[tuple[Arch, str], tuple[str, float, float]](), dict[tuple[Arch, str], int]()
    every = run.info.images.get("held-out", 0)
    with whole(run.folder / "searches.jsonl"):
        for r in read_lines(run.folder / "searches.jsonl"):
            key, of = (Arch.from_json(r["arch"]), str(r["device"])), int(r.get("held_out_images", every))
            if of >= images.get(key, 0):
                name = f"finalist for {Budget(**r['budget'])}"
                found[key], images[key] = (name, float(r["measured_ms"]), float(r["held_out_top1"])), of
    path = run.folder / "front.json"
    with whole(path):
        front = read_json(path) if path.exists() else {"points": []}
        for r in front["points"]:
            arch, top1 = Arch.from_json(r["arch"]), float(r["held_out"]["top1"])
            found[arch, str(front["device"])] = ("of the measured front", float(r["measured_ms"]), top1)
    return {key: values for key, values in found.items() if key[0] in run.space}


def _is_imagenet(run: Run) -> bool:
    """Whether accuracies compare with published ones: weights of the authors without other images, or ImageNet's class names."""
    named = run.info.data is None or all(re.fullmatch(r"n\d{8}", name) for name in run.info.classes)
    return run.num_classes == IMAGENET_CLASSES and named


def chosen_facts(run: Run, tables: list[LatencyTable]) -> list[ChosenFacts]:
    """The networks in specialised/, the fastest first."""
    by_name = {str(table.device): table for table in tables}
    chosen = []
    for path in sorted((run.folder / "specialised").glob("*.json")):
        with whole(path):
            data = read_json(path)
            arch = Arch.from_json(data["arch"])
            plan = run.space.lower(arch, run.num_classes)
            table = by_name.get(data["device"])
            test, latency, budget = data["test"], data["latency"], data["budget"]
            files = [FileFacts(f["format"], f["top1"], _three(f["latency"])) for f in data.get("files", [])]
            chosen.append(
                ChosenFacts(
                    name=path.stem,
                    device=table.device.spec if table else data["device"],
                    limits=str(Budget(**budget)),
                    budget_ms=budget["latency_ms"],
                    latency_ms=latency["ms"],
                    latency_low_ms=latency["low"],
                    latency_high_ms=latency["high"],
                    predicted_latency_ms=data["predicted_ms"],
                    top1=test["top1"],
                    images=test["images"],
                    predicted_top1=data["predicted_top1"],
                    macs=plan.macs,
                    params=plan.params,
                    peak_memory_bytes=plan.peak_memory_bytes,
                    picture=draw(plan, arch, shares=data["shares"] or None),
                    folder=data["folder"],
                    blocks=_blocks(plan, arch, data["shares"]),
                    files=files,
                )
            )
    return sorted(chosen, key=lambda c: c.latency_ms)


def _three(values: list[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    ms, low, high = map(float, values)
    return ms, low, high


def _blocks(plan: Plan, arch: Arch, shares: Mapping[str, float]) -> list[BlockFacts]:
    ratios = {f"stages.{s}.{i}": b.expand_ratio for s, stage in enumerate(arch.stages) for i, b in enumerate(stage.blocks)}
    blocks = []
    for segment in plan.segments:
        size = pixels(segment.out_shape)
        kernel, ratio, share = look(segment).kernel, ratios.get(segment.name), shares.get(segment.name)
        width = channels(segment.out_shape)
        blocks.append(BlockFacts(segment.name, kernel, ratio, width, size[0] if size else None, segment.macs, share))
    return blocks


def cost_facts(run: Run, about: RunFacts, tables: Mapping[Path, LatencyTable]) -> list[CostFacts]:
    """Time and work of each stage."""
    costs = []
    if about.seconds is not None:
        seen = "" if about.images_seen is None else f", {about.images_seen:,} images through a sub-network"
        costs.append(CostFacts("training", about.seconds, f"{about.steps:,} steps{seen}"))
    if rows := measured_rows(run):
        images = sum(row.images for row in rows)
        work = f"{len(rows):,} sub-networks, {images:,} images in all, shared beginnings computed once"
        costs.append(CostFacts("accuracy data", sum(row.seconds for row in rows), work))
    for place, table in tables.items():
        with whole(place / "measurements.jsonl"):
            records = [r for r in read_lines(place / "measurements.jsonl") if "repeats" in r]
            seconds = sum(float(r["ms"]) * int(r["repeats"]) for r in records) / 1000
        if records:
            costs.append(
                CostFacts(f"profile of {table.device.spec}", seconds, f"{len(records):,} timings, only the timed calls counted")
            )
    if found := read_lines(run.folder / "searches.jsonl"):
        costs.append(CostFacts("searches", None, f"{len(found):,} finalists measured; times are not recorded"))
    if opened := read_lines(run.folder / "test_openings.jsonl"):
        costs.append(CostFacts("test images", None, f"opened {len(opened):,} times, for final numbers"))
    return costs
