"""A realistic run, made up: what a full pipeline on a small data set gives."""

import numpy as np
import pytest

import onceforall
from onceforall.picture import draw
from onceforall.report import (
    AccuracyFacts,
    BlockFacts,
    Check,
    ChosenFacts,
    ComparedFacts,
    CostFacts,
    Curve,
    FileFacts,
    FrontFacts,
    LatencyFacts,
    PhaseFacts,
    ReportFacts,
    RivalFacts,
    RunFacts,
    Spot,
    Subnet,
    VerdictFacts,
)

SPACE = onceforall.space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128))
PHASES = ("largest", "kernel", "depth 1", "depth 2", "expand 1", "expand 2")


def example(hostile: str = "", name: str = "imagenette") -> ReportFacts:
    """Facts of every kind; `hostile` is put into every text."""
    rng = np.random.default_rng(0)
    run = RunFacts(
        folder=f"runs/{name}{hostile}",
        name=f"{name}{hostile}",
        command=f"ofa train imagenette --preset small --out runs/imagenette{hostile}",
        data=f"Imagenette, 160 px{hostile}",
        classes=[f"{name}{hostile}" for name in ("tench", "English springer", "cassette player", "chain saw", "church")],
        images={f"train{hostile}": 8469, "held-out": 1000, "test": 3925},
        space=f"mobilenet_v3(width=0.5, resolutions=96–128){hostile}",
        networks=SPACE.count(),
        seed=0,
        hardware=f"2 cores, x86-64{hostile}",
        versions={f"onceforall{hostile}": "0.1.0", "torch": "2.15.0", "Python": "3.11.2"},
        seconds=3290.0,
        images_seen=1_123_840,
    )
    phases, losses, top1 = [], [], {name: ([], []) for name in ("largest", "d3 e4 k5", "d2 e6 k7", "smallest")}
    for index, name in enumerate(PHASES):
        steps = 1320 if index == 0 else 400
        first = sum(phase.steps for phase in phases)
        phases.append(
            PhaseFacts(f"{name}{hostile}", f"kernels 3 to 7{hostile}", first, steps, 10.0, 0.08 / (1 + index), 1 + index % 4, 540.0)
        )
        at = np.arange(first, first + steps, 2)
        fall = 2.3 * np.exp(-at / 900) + 0.5 + 0.25 * (index > 0) + rng.normal(0, 0.06, len(at))
        losses.append(Curve(f"{name}{hostile}", at.tolist(), fall.tolist()))
        for rank, (steps_seen, values) in enumerate(top1.values()):
            for step in range(first + steps // 4, first + steps + 1, steps // 4):
                steps_seen.append(step)
                reached = 0.84 - 0.035 * rank - 0.7 * np.exp(-step / 500) - (0.4 if rank > index else 0)
                values.append(float(max(0.1, reached + rng.normal(0, 0.006))))
    measured = rng.uniform(0.68, 0.82, 40)
    checks = []
    for i, value in enumerate(measured):
        predicted = float(value + rng.normal(0, 0.007))
        interval, bars = (float(value) - 0.02, float(value) + 0.02), (predicted - 0.012, predicted + 0.012)
        checks.append(Check(f"random {i}{hostile}", predicted, float(value), interval, bars))
    ms = rng.uniform(1.5, 9, 30)
    latency_checks = [
        Check(f"net {i}{hostile}", float(v * rng.normal(1, 0.03)), float(v), (v * 0.98, v * 1.02)) for i, v in enumerate(ms)
    ]
    cloud_ms = rng.uniform(1.8, 9.5, 800)
    cloud = [(float(v), float(0.86 - 0.2 / v - abs(rng.normal(0, 0.015)) - 0.02)) for v in cloud_ms]
    front = [(float(v), float(0.862 - 0.21 / v)) for v in np.geomspace(1.3, 9, 24)]
    chosen = []
    for budget, found in ((2.0, SPACE.smallest()), (4.0, SPACE.sample(rng)), (8.0, SPACE.largest())):
        plan = SPACE.lower(found, 10)
        shares = {segment.name: segment.macs / plan.macs for segment in plan.segments}
        chosen.append(
            ChosenFacts(
                name=f"under {budget:g} ms{hostile}",
                device=f"onnxruntime, 1 thread{hostile}",
                limits=f"latency ≤ {budget:g} ms{hostile}",
                budget_ms=budget,
                latency_ms=budget * 0.97,
                latency_low_ms=budget * 0.95,
                latency_high_ms=budget * 0.99,
                predicted_latency_ms=budget * 0.96,
                top1=0.858 - 0.21 / budget,
                images=3925,
                predicted_top1=0.86 - 0.21 / budget,
                macs=plan.macs,
                params=plan.params,
                peak_memory_bytes=plan.peak_memory_bytes,
                picture=draw(plan, found, shares=shares),
                folder=f"runs/imagenette/networks/{budget:g}ms{hostile}",
                blocks=[
                    BlockFacts(f"stages.0.0{hostile}", 5, 4, 24, 56, 1_234_567, 0.125),
                    BlockFacts("head", None, None, 10, None, 9, None),
                ],
                files=[FileFacts(f"onnx{hostile}", 0.8123, (1.23, 1.21, 1.26)), FileFacts("pytorch", 0.8123, None)],
            )
        )
    device = f"onnxruntime, 1 thread{hostile}"
    cores = "2 cores" + hostile
    spots = [Spot(f"note10@16ms{hostile}", 4.5, 0.801, f"published at 160 px{hostile}"), Spot("cpu@10ms", 3.1, 0.794)]
    subnets = [Subnet(96 + 16 * (i % 3), 10 + i % 11, 10_000_000 + 100_000 * i, 0.7 + 0.001 * i) for i in range(60)]
    return ReportFacts(
        run=run,
        phases=phases,
        losses=losses,
        top1=[Curve(f"{name}{hostile}", *both) for name, both in top1.items()],
        rates=[Curve("training", [0, 100, 200], [0.0, 0.08, 0.04])],
        subnets=subnets,
        accuracy=AccuracyFacts(f"smooth{hostile}", 260, 1000, checks, 0.0071, 0.891, 0.9, 0.93),
        latency=[
            LatencyFacts(
                device,
                f"ONNX Runtime 1.32, float32, batch 1, median of 60{hostile}",
                latency_checks,
                (0.031, 0.02, 0.04),
                (0.962, 0.95, 0.97),
                0.06,
            ),
            LatencyFacts(
                f"pytorch, 2 threads{hostile}",
                "PyTorch 2.15 eager, channels-last, batch 1",
                latency_checks[:9],
                (0.044, 0.03, 0.05),
                (0.93, 0.9, 0.95),
                0.09,
            ),
        ],
        fronts=[
            FrontFacts(device, cores, cloud, front, spots[:1], spots),
            FrontFacts(
                None, "", [(1e7 * ms, top1) for ms, top1 in cloud], [(1e7 * ms, top1) for ms, top1 in front], published=spots
            ),
        ],
        chosen=chosen,
        compared=ComparedFacts(
            device,
            cores,
            [
                RivalFacts(f"ours 1{hostile}", True, 112, (3.9, 3.8, 4.0), 60_000_000, 2_100_000, 0.81, 3925),
                RivalFacts(
                    f"timm:small@96{hostile}", False, 96, (4.0, 3.9, 4.1), 70_000_000, 1_500_000, 0.80, 3925, f"3 epochs{hostile}"
                ),
            ],
            [
                VerdictFacts(
                    f"4.00 ms{hostile}",
                    [f"timm:small@96{hostile}"],
                    f"ours 1{hostile}",
                    f"timm:small@96{hostile}",
                    f"ours{hostile}",
                    (0.01, -0.002, 0.022),
                ),
                VerdictFacts("0.10 ms", [], None, None, "none", None),
            ],
            f"ours is at least as accurate in 1 of 2 budgets{hostile}",
            [(1, 4000.0, 1500.0), (3, 4100.0, 4500.0), (10, 4500.0, 15000.0)],
            3,
            [f"timm:small@96 starts from random weights{hostile}"],
        ),
        costs=[
            CostFacts(f"training{hostile}", 3290.0, f"3,320 steps{hostile}"),
            CostFacts("searches", None, "8 finalists measured"),
        ],
        problems=[f"The device was busy while it was measured: 3 of 60 passes were left out.{hostile}"],
    )


@pytest.fixture
def facts() -> ReportFacts:
    return example()


@pytest.fixture
def other() -> ReportFacts:
    return example(name="other")


@pytest.fixture
def empty() -> ReportFacts:
    return ReportFacts(example().run)


@pytest.fixture
def hostile() -> ReportFacts:
    return example("</style><script>alert('x')</script>&\"")
