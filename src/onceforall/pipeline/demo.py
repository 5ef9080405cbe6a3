"""`ofa demo`: every step on the digits that scikit-learn ships: train, evaluate, profile, predict, specialise, report."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.progress import QUIET, Progress
from ..common.readable import paired_difference
from ..data import Images
from ..errors import TrainingError
from ..export import load
from ..options.shared import Budget
from ..report import report
from .accuracies.predict import predict
from .evaluate import Evaluation, evaluate
from .profile import profile
from .run_directory.run import Run
from .specialise import specialise
from .specialising.record import Specialised
from .train import train

PRESET = "digits-demo"
HOLDOUT = 0.4  # with fewer held-out images, the networks' accuracies could not be distinguished
BUDGETS = (0.1, 0.5, 1.0)  # between the fastest and the slowest network, on a logarithmic scale: where accuracy falls
SUBNETS = 40


@dataclass(frozen=True)
class Gain:
    """What a slower network gains over a faster one: extra milliseconds, and points of test top-1 with a 95 % interval.

    The interval is of a paired difference, since both saw the same images.
    """

    ms: float
    points: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Demo:
    """The results of the demo.

    Args:
        ends: test accuracies of the largest and the smallest network.
        networks: the specialized networks, fastest first.
        right: for each network, which test images it classifies correctly.
        page: the report.
    """

    run: Run
    ends: list[Evaluation]
    networks: list[Specialised]
    right: list[NDArray[np.bool_]]
    page: Path

    @property
    def gains(self) -> list[Gain]:
        """The gain of each network over the one before it; the last entry is the slowest over the fastest."""
        known = list(zip(self.networks, self.right, strict=True))
        return [_gain(*fast, *slow) for fast, slow in (*pairwise(known), (known[0], known[-1]))]


def demo(out: Path, *, seed: int = 0, progress: Progress = QUIET) -> Demo:
    """Run every command on the digits; an interrupted demo resumes where it stopped.

    Args:
        seed: seed for the weights, the held-out images and all random draws. The test images are always the same.
        progress: its `count` gets (done, total, note) while sub-networks are measured.
    """
    out = Path(out)
    begun = (out / "run.json").exists()
    if begun and (preset := Run.open(out).info.preset) != PRESET:
        raise TrainingError(f"{out} holds a run of the preset {preset}, which is not the demo's: choose another --out")
    progress.say("train: one elastic network on handwritten digits")
    run = train("digits", out=out, preset=PRESET, seed=seed, holdout=HOLDOUT, resume=begun, device="cpu", progress=progress)
    progress.say("evaluate: the largest and the smallest sub-network on test images")
    ends = [evaluate(out, arch=name, split="test")[0] for name in ("largest", "smallest")]
    progress.say("profile: how fast is any sub-network on this machine")
    table = profile(out, quick=True, progress=progress)
    progress.say("predict: how accurate is any sub-network")
    predict(out, subnets=SUBNETS, progress=progress)
    fastest, slowest = table.estimate([run.space.smallest(), run.space.largest()]).tolist()
    budgets = [Budget(latency_ms=float(f"{fastest * (slowest / fastest) ** share:.2g}")) for share in BUDGETS]
    networks = specialise(out, budgets, progress=progress)
    test = run.open_test(run.splits(), "ofa demo, gains of slower networks")
    right = [_right(run, test, network) for network in networks]
    progress.say("report: everything on one page")
    return Demo(run, ends, networks, right, report(out))


def _right(run: Run, test: Images, network: Specialised) -> NDArray[np.bool_]:
    """Which of the images the exported network classifies correctly."""
    model = load(network.folder)
    batches = run.eval_batches(test, network.arch.resolution)
    with torch.no_grad():
        found: NDArray[np.bool_] = torch.cat([model(x).argmax(1) == labels for x, labels in batches]).numpy()
    return found


def _gain(fast: Specialised, fast_right: NDArray[np.bool_], slow: Specialised, slow_right: NDArray[np.bool_]) -> Gain:
    gained, lost = int((slow_right & ~fast_right).sum()), int((fast_right & ~slow_right).sum())
    low, high = paired_difference(gained, lost, len(slow_right))
    return Gain(slow.latency.ms - fast.latency.ms, 100 * (gained - lost) / len(slow_right), 100 * low, 100 * high)
