"""What `ofa specialise` prepares if it is missing: a profile of the device and an accuracy predictor."""

import time

from ...common.advice import ofa
from ...common.progress import Progress
from ...common.readable import duration
from ...errors import CheckpointError
from ...latency import Device
from ...options.choosing import SpecialiseOptions
from ...options.measuring import PredictOptions
from ...scores import METRICS
from ..accuracies.predict import predict
from ..accuracies.predictor import load_predictor
from ..profile import profile, profiled
from ..run_directory.run import Run

SUBNETS = PredictOptions.subnets
SOON_S = 3.0  # before the time left can be estimated
EVERY = 4  # progress lines per long measurement


def make_ready(run: Run, options: SpecialiseOptions, progress: Progress) -> None:
    """Measure what the search needs and the run lacks. Everything is kept, and an interrupted measurement is resumed.

    Raises:
        OnceForAllError: as for `profile` and `predict`.
    """
    limited = any(budget.latency_ms is not None for budget in options.budgets)
    for text in options.devices if limited else ():
        if not Device.parse(text).imported and not profiled(run, text):
            progress.say(
                f"{text} has not been profiled yet, which is done first and kept ({ofa('profile', run.folder, '--device', text)})"
            )
            profile(run.folder, device=text, progress=_left(progress, "measuring the device"))
    if _lacks_predictor(run):
        of, where = ("accuracy", ofa("predict", run.folder)) if run.by is None else (METRICS[run.by], f"in {run.accuracy}")
        progress.say(f"no predictor of {of} yet: {SUBNETS:,} sub-networks are measured first, and the results kept ({where})")
        measuring = _left(progress, "measuring accuracies")
        predict(run.folder, subnets=SUBNETS, data=options.data, metric=run.by, progress=measuring)


def _lacks_predictor(run: Run) -> bool:
    """Whether a predictor is missing or, for another metric than the run's, outdated: no command refits that one."""
    if not (run.accuracy / "predictor.safetensors").exists():
        return True
    if run.by is not None:
        try:
            load_predictor(run)
        except CheckpointError:
            return True
    return False


def _left(progress: Progress, what: str) -> Progress:
    """Progress as a few lines with the time left."""
    began, lines, first = time.monotonic(), 0, -1

    def count(done: int, total: int, text: str) -> None:
        nonlocal lines, first
        first = done if first < 0 else first  # earlier measurements take no time
        passed = time.monotonic() - began
        if done > first and passed > SOON_S and done * EVERY >= lines * total and done < total:
            lines = done * EVERY // total + 1
            left = duration(passed / (done - first) * (total - done))
            progress.say(f"{what}: {done:,} of {total:,}, about {left} left")

    return Progress(count=count)
