"""A realistic run, made up: what a full pipeline on a small data set gives."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import onceforall
from onceforall.accuracy import AccuracyRow
from onceforall.calibrate import Accuracy
from onceforall.export import FileRow
from onceforall.latency import Device, LatencyTable, Timing
from onceforall.latency.table import LatencyErrors, Measured
from onceforall.pipeline import Budget, Run
from onceforall.pipeline.comparison.versus import Comparison, Costs, Rival, Verdict
from onceforall.pipeline.run_directory.info import BroughtInfo, DataInfo, RunInfo
from onceforall.pipeline.run_directory.metrics import Metric, Metrics
from onceforall.pipeline.specialising.record import Specialised
from onceforall.report.charts import FrontSeries
from onceforall.report.drawing import Point
from onceforall.report.shown import Chosen, PredictorChecks, Shown
from onceforall.train import Phase, Recipe, Schedule

SPACE = onceforall.space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128))
PHASES = ("largest", "kernel", "depth 1", "depth 2", "expand 1", "expand 2")
CPU, TORCH = Device.parse("onnxruntime"), Device.parse("pytorch:threads=2")


def info_of(name: str, hostile: str) -> RunInfo:
    return RunInfo(
        space=json.loads(SPACE.to_json()),
        classes=tuple(f"{name}{hostile}" for name in ("tench", "English springer", "cassette player", "chain saw", "church")),
        data=DataInfo(f"Imagenette, 160 px{hostile}", 160, 0.1, 0, None, ""),
        images={f"train{hostile}": 8469, "train": 8469, "held-out": 1000, "test": 3925},
        augment={},
        crop_share=0.875,
        seed=0,
        preset=None,
        environment={
            "command": f"ofa train imagenette --preset small --out runs/imagenette{hostile}",
            "processor": f"x86-64{hostile}",
            "cores": 2,
            "threads": 2,
            "python": "3.11.2",
            "packages": {f"onceforall{hostile}": "0.1.0", "torch": "2.15.0"},
        },
        arguments={"recipe": {"policy": f"trivial_augment{hostile}", "mixup": 0.2, "flip": False, "crop_scale": [0.35, 1]}},
        brought=BroughtInfo(f"mobilenet_v3{hostile}", None, None, None, False) if hostile else None,
    )


def training_of(rng: np.random.Generator, hostile: str) -> tuple[Schedule, Metrics]:
    phases, records = [], []
    for index, name in enumerate(PHASES):
        steps, name = 1320 if index == 0 else 400, f"{name}{hostile}"
        first = sum(phase.steps for phase in phases)
        phases.append(Phase(name, {}, steps, 0, 0.08 / (1 + index), 1 + index % 4))
        for step in range(first, first + steps, 2):
            fall = 2.3 * np.exp(-step / 900) + 0.5 + 0.25 * (index > 0) + rng.normal(0, 0.06)
            records.append(Metric("train", step, step / 2, name, float(fall), 0.08 * (1 - step / 4000)))
        for rank, subnet in enumerate(("largest", "d3 e4 k5", "d2 e6 k7", "smallest")):
            for step in range(first + steps // 4, first + steps + 1, steps // 4):
                reached = 0.84 - 0.035 * rank - 0.7 * np.exp(-step / 500) - (0.4 if rank > index else 0)
                top1 = float(max(0.1, reached + rng.normal(0, 0.006)))
                records.append(Metric("validation", step, step / 2, name, subnet=f"{subnet}{hostile}", top1=top1))
    records.append(Metric("note", 3320, 3290.0))
    return Schedule(tuple(phases), Recipe()), Metrics(tuple(records))


def checks_of(rng: np.random.Generator, hostile: str) -> PredictorChecks:
    points = []
    for i, measured in enumerate(rng.uniform(0.68, 0.82, 40).tolist()):
        predicted = float(measured + rng.normal(0, 0.007))
        bars = (predicted - 0.012, predicted + 0.012), (measured - 0.02, measured + 0.02)
        points.append(Point(f"random {i}{hostile}", predicted, measured, *bars))
    errors = {"rmse": 0.0071, "kendall_tau": 0.891, "coverage90": 0.9, "ceiling": 0.93, "fitted_on": 260, "images": 1000}
    return PredictorChecks(f"smooth{hostile}", errors, points)


def table_of(rng: np.random.Generator, device: Device, n: int, hostile: str) -> tuple[LatencyTable, list[Point]]:
    ms = rng.uniform(1.5, 9, n).tolist()
    predicted = [float(v * rng.normal(1, 0.03)) for v in ms]
    made = Measured(device, f"1.32{hostile}", 1.0, 1.0, LatencyErrors(tuple(predicted), tuple(ms)))
    points = [
        Point(f"net {i}{hostile}", p, m, None, (m * 0.98, m * 1.02)) for i, (p, m) in enumerate(zip(predicted, ms, strict=True))
    ]
    return LatencyTable(SimpleNamespace(), 10, f"2 cores{hostile}", made), points


def chosen_of(rng: np.random.Generator, hostile: str) -> list[Chosen]:
    chosen = []
    for budget, arch in ((2.0, SPACE.smallest()), (4.0, SPACE.sample(rng)), (8.0, SPACE.largest())):
        plan = SPACE.lower(arch, 10)
        chosen.append(
            Chosen(
                f"under {budget:g} ms{hostile}",
                CPU.spec,
                Specialised(
                    folder=Path(f"runs/imagenette/networks/{budget:g}ms{hostile}"),
                    arch=arch,
                    device=CPU.spec,
                    budget=Budget(latency_ms=budget),
                    predicted_ms=budget * 0.96,
                    predicted_top1=0.86 - 0.21 / budget,
                    test=Accuracy(0.858 - 0.21 / budget, 1.0, 0.5, 3925),
                    latency=Timing(budget * 0.97, budget * 0.95, budget * 0.99, 100),
                    shares={segment.name: segment.macs / plan.macs for segment in plan.segments},
                    files=(FileRow(f"onnx{hostile}", 0.8123, (1.23, 1.21, 1.26)), FileRow("pytorch", 0.8123)),
                ),
                plan,
            )
        )
    return chosen


def comparison_of(hostile: str) -> Comparison:
    small = f"timm:small@96{hostile}"
    return Comparison(
        key="",
        device=CPU.spec,
        hardware=f"2 cores{hostile}",
        fixed=(
            Rival(small, False, 96, 70_000_000, 1_500_000, 4.0, 3.9, 4.1, 0.8, 0.80, 3925, 90.0, 3.0, f"random weights{hostile}"),
        ),
        ours=(Rival(f"ours 1{hostile}", True, 112, 60_000_000, 2_100_000, 3.9, 3.8, 4.0, 0.8, 0.81, 3925),),
        verdicts=(
            Verdict(Budget(latency_ms=4.0), (small,), f"ours 1{hostile}", small, False, 0.01, -0.002, 0.022),
            Verdict(Budget(latency_ms=0.1)),
        ),
        costs=Costs(once=4000.0, each=50.0, fixed=1500.0),
        notes=(f"timm:small@96 starts from random weights{hostile}",),
    )


def example(hostile: str = "", name: str = "imagenette") -> Shown:
    """Facts of every kind; `hostile` is put into every text that is not made of numbers and known words."""
    rng = np.random.default_rng(0)
    schedule, training = training_of(rng, hostile)
    cloud = [(float(v), float(0.86 - 0.2 / v - abs(rng.normal(0, 0.015)) - 0.02)) for v in rng.uniform(1.8, 9.5, 800)]
    front = [(float(v), float(0.862 - 0.21 / v)) for v in np.geomspace(1.3, 9, 24)]
    others = [Point(f"note10@16ms{hostile} (published at 160 px{hostile})", 4.5, 0.801), Point("cpu@10ms", 3.1, 0.794)]
    tables = [table_of(rng, CPU, 30, hostile), table_of(rng, TORCH, 9, hostile)]
    by_macs = ([(1e7 * cost, top1) for cost, top1 in pairs] for pairs in (cloud, front))
    archs = (SPACE.sample(rng) for _ in range(60))
    return Shown(
        run=Run(Path(f"runs/{name}{hostile}"), info_of(name, hostile)),
        name=f"{name}{hostile}",
        schedule=schedule,
        training=training,
        subnets=[(AccuracyRow(a, 0.7 + 0.001 * i, 1.0, 1000, 1.0), 10_000_000 + 100_000 * i) for i, a in enumerate(archs)],
        checks=checks_of(rng, hostile),
        tables=tables,
        fronts={
            (CPU.spec, f"2 cores{hostile}"): FrontSeries("", cloud, front, others[:1], others),
            (None, ""): FrontSeries("", *by_macs, published=others),
        },
        chosen=chosen_of(rng, hostile),
        compared=comparison_of(hostile),
        costs={f"training{hostile}": (3290.0, f"3,320 steps{hostile}"), "searches": (None, "8 finalists measured")},
        problems=[f"The device was busy while it was measured: 3 of 60 passes were left out.{hostile}"],
    )


@pytest.fixture
def facts() -> Shown:
    return example()


@pytest.fixture
def other() -> Shown:
    return example(name="other")


@pytest.fixture
def empty() -> Shown:
    return Shown(example().run, "imagenette")


@pytest.fixture
def hostile() -> Shown:
    return example("</style><script>alert('x')</script>&\"")
