"""Quick look: while a run has no predictor, for example during training, a job of the explorer measures some sub-networks of the
newest weights on some images and fits a predictor to them, in RUN/explorer/quick. The predictor of `ofa predict`, which measures
more sub-networks with the final weights, takes its place.
"""

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..accuracy import AccuracyPredictor, AccuracyRow, measurement_noise, tree
from ..accuracy.prefix_tree import grow, units
from ..common.files import busy, make_folder
from ..common.progress import QUIET, Progress
from ..common.records import read_record, write_record
from ..costs import segment_table
from ..errors import OnceForAllError
from ..pipeline import Run
from ..pipeline.accuracies.measure_accuracy import measure_group
from ..pipeline.run_directory.newest import newest_weights, open_newest
from .jobs import ENDED, Jobs

FORMAT = "onceforall.quick/1"
STANDING = "explorer/quick/standing.json"
SUBNETS = 24  # to measure, if the space has that many
HELD_OUT, CALIBRATION = 250, 250  # images
AT_ONCE = 4  # networks measured together
NICE = 5  # training has priority
REST = 2.0  # pause after a quick look during training, as a multiple of its duration
WATCH_S = 2.0


@dataclass(frozen=True)
class Standing:
    """What the numbers of a quick look are based on.

    Args:
        weights: checksum of the weights' file.
        step: the training step.
        final: whether they are the run's final weights.
        subnets: number of measured sub-networks.
        images: number of held-out images.
        seconds: duration.
    """

    weights: str
    step: int
    final: bool
    subnets: int
    images: int
    seconds: float

    @property
    def where(self) -> str:
        """The training step as text; "" for the final weights."""
        return "" if self.final else f"step {self.step:,}"


def quick_predictor(run: Run) -> tuple[AccuracyPredictor, Standing] | None:
    """The predictor of the last quick look; None if there is none, or if the run has a predictor of `ofa predict`.

    Raises:
        OnceForAllError: a file is damaged.
    """
    place = run.folder / STANDING
    if has_predictor(run) or not place.exists():
        return None
    standing = read_record(place, Standing, FORMAT, otherwise="remove it, and it is made again")
    path = place.with_name(f"{standing.weights[:16]}.safetensors")
    return AccuracyPredictor.load(path, run.space, weights_hash=standing.weights), standing


def has_predictor(run: Run) -> bool:
    """Whether the run has its own predictor."""
    return (run.folder / "accuracy" / "predictor.safetensors").exists()


def measure_quickly(run: Run, *, progress: Progress = QUIET) -> Standing:
    """Measure some sub-networks with the newest weights and fit a predictor, which replaces the last one.

    Raises:
        OnceForAllError: there are no weights or images, or the space is too small.
    """
    if os.name == "posix":
        os.nice(NICE)
    began = time.monotonic()
    progress.say("opening the run and its images")
    splits = run.splits()
    weights, supernet = open_newest(run)
    held_out, segments = splits.held_out.sample(HELD_OUT), segment_table(run.space, run.num_classes)
    archs = tree(run.space, np.random.default_rng([run.info.seed, 11]), min(SUBNETS, run.space.count()), segments)
    rows: list[AccuracyRow] = []
    for group in units(grow({arch: run.space.lower(arch, run.num_classes) for arch in archs}), AT_ONCE):
        progress.count(len(rows), len(archs), f"step {weights.step:,}: {len(rows)} of {len(archs)} sub-networks measured")
        rows += measure_group(run, supernet, splits, group, held_out=held_out, calibration=CALIBRATION)
    progress.say("fitting a predictor")
    predictor = AccuracyPredictor.fit(
        run.space,
        [row.arch for row in rows],
        [row.value for row in rows],
        losses=[row.loss for row in rows],
        noise=measurement_noise(rows),
        weights_hash=weights.digest,
        seed=run.info.seed,
    )
    place = run.folder / STANDING
    path = make_folder(place.parent) / f"{weights.digest[:16]}.safetensors"
    predictor.save(path)
    standing = Standing(weights.digest, weights.step, weights.final, len(rows), len(held_out), time.monotonic() - began)
    write_record(place, standing, FORMAT)
    for old in place.parent.glob("*.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)
    return standing


class Quick:
    """Queues a quick look whenever there are newer weights and the run has no predictor, unless `paused`.

    During training it waits `REST` times the duration of the last look. Cancelling a look pauses them all; one that failed is not
    repeated with the same weights.
    """

    def __init__(self, run: Run, jobs: Jobs) -> None:
        self.run, self.jobs = run, jobs
        self.paused = run.info.data is None
        self.tried, self.job, self.last, self.trouble, self.rested = "", "", "", "", 0.0
        self.stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="quick look", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()

    def turn(self, on: bool) -> None:
        """Continue or pause; weights with which a look failed are tried again."""
        self.paused, self.tried, self.rested = not on, "", 0.0
        if not on and self.job:
            self.jobs.cancel(self.job)

    def state(self) -> dict[str, Any]:
        """The state for the page: whether it is paused, what is being measured, and why the last look failed."""
        job = self.jobs.own.get(self.last, {})
        going = bool(job) and job["state"] not in ENDED
        return {
            "paused": self.paused,
            "possible": self.run.info.data is not None and not has_predictor(self.run),
            "step": job["step"] if going else "",
            "share": job["share"] if going else 0.0,
            "error": job["error"] if job and job["state"] == "failed" else self.trouble,
        }

    def _work(self) -> None:
        while not self.stopping.wait(WATCH_S):
            try:
                self._next()
                self.trouble = ""
            except OnceForAllError as error:  # such as a folder that cannot be written
                self.trouble = str(error)

    def _next(self) -> None:
        if self.job:
            job = self.jobs.own[self.job]
            if job["state"] not in ENDED:
                return
            self.job, self.paused = "", self.paused or job["state"] == "cancelled"
            if job["state"] == "done" and busy(self.run.folder):
                self.rested = time.monotonic() + REST * job["result"]["seconds"]
        resting = time.monotonic() < self.rested and busy(self.run.folder)
        if self.paused or resting or has_predictor(self.run) or busy(self.run.folder / "accuracy"):
            return
        if (weights := newest_weights(self.run)) is None or weights.digest == self.tried:
            return
        if (found := quick_predictor(self.run)) is None or found[1].weights != weights.digest:
            self.job = self.last = self.jobs.put("quick", name=f"step {weights.step:,}")["id"]
        self.tried = weights.digest
