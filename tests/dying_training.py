"""Trainings that are killed: `python dying_training.py FOLDER SEED STRIDE`, run by `tests/train/test_kills.py`.

Every training is a fork of this process, which loads torch once. Prints what was done as JSON.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onceforall.errors import FileError, StoppedError
from onceforall.train import SCHEMES, Phase, Recipe, Schedule, Settings, finetune, finetuning
from onceforall.train.checkpoint import digest_of, latest, save_tensors
from tiny_training import CLASSES, IMAGES, SPACE, batches, fresh, go

ONLY_LARGEST = {"widths": 1, "depths": 1, "kernels": 1, "expand_ratios": 1}
RECIPE = Recipe(batch_size=IMAGES, dropout=0.2, ema=0.8)
SHORT = Schedule(
    (
        Phase("largest", ONLY_LARGEST, 4, 1, 0.05, distil=False),
        Phase("all", {}, 4, 0, 0.05, subnets=2, strategy="sandwich", sort=1),
    ),
    RECIPE,
)
DIVERGES_AT = 5
PROBE = "stem.first.conv.weight"
EVERY_STEP = Settings(seed=1, validate_every=3, checkpoint_every_s=-1.0)
OPERATIONS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir"}


def forked(work: Callable[[], None], kill_after_s: float | None = None) -> int:
    """Do the work in a process of its own; its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def training(
    folder: Path, schedule: Schedule, settings: Settings, *, diverges_with: Tensor | None = None, kill_at: int | None = None
) -> Callable[[], None]:
    """A training that leaves its final weights; its loss is not a number where the weights are these, as at too high a rate."""

    def work() -> None:
        net = fresh()

        def data(step: int, resolution: int) -> tuple[Tensor, Tensor]:
            images, labels = batches(step, resolution)
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == DIVERGES_AT and diverges_with is not None and torch.equal(net.get_parameter(PROBE), diverges_with):
                images = images * torch.nan
            return images, labels

        weights = go(folder, schedule, supernet=net, data=data, settings=settings)
        save_tensors(folder / "final", {name: value for name, value in weights.items() if "running" not in name}, {})

    return work


def dying(work: Callable[[], None], folder: Path, operation: int) -> Callable[[], None]:
    """The same, killed right before that operation on the folder's files, counted from 0."""
    left = operation

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    def killed() -> None:
        sys.addaudithook(watch)
        work()

    return killed


def at_every_operation(base: Path, stride: int) -> int:
    """Killed before each operation on a file, through a rollback, the making of the teacher and the sorting of channels."""
    probe = weight_after(base / "probe", DIVERGES_AT)
    assert forked(training(base / "whole", SHORT, EVERY_STEP, diverges_with=probe)) == 0
    whole = digest_of(base / "whole" / "final")
    saved = latest(base / "whole" / "checkpoints")
    assert saved is not None
    assert saved.facts["rollbacks"] == 1
    operation = 0
    while True:
        folder = base / f"operation-{operation}"
        work = training(folder, SHORT, EVERY_STEP, diverges_with=probe)
        status = forked(dying(work, folder, operation))
        if status == 0:
            return operation
        assert status == -signal.SIGKILL
        assert forked(work) == 0, operation
        assert digest_of(folder / "final") == whole, operation
        assert not list((folder / "checkpoints").glob(".*")), operation
        operation += stride


def weight_after(folder: Path, step: int) -> Tensor:
    with suppress(StoppedError):
        go(folder, SHORT, settings=EVERY_STEP, stops=lambda done: done == step)
    saved = latest(folder / "checkpoints")
    assert saved is not None
    return saved.tensors[f"model.{PROBE}"]


def in_every_phase(base: Path, rng: np.random.Generator) -> dict[str, int]:
    """Each scheme, killed once at a random step of each of its phases, and four times by the clock."""
    kills = {}
    for scheme in SCHEMES:
        schedule = SCHEMES[scheme](SPACE, steps=24, rate=0.05, recipe=RECIPE)
        settings = Settings(seed=2, validate_every=7, checkpoint_every_s=0.02)
        begin = time.monotonic()
        assert forked(training(base / f"{scheme}-whole", schedule, settings)) == 0
        seconds = time.monotonic() - begin
        folder, first = base / scheme, 0
        for phase in schedule.phases:
            at_step = first + int(rng.integers(phase.steps))
            assert forked(training(folder, schedule, settings, kill_at=at_step)) == -signal.SIGKILL
            first += phase.steps
        work = training(folder, schedule, settings)
        assert forked(work) == 0
        assert digest_of(folder / "final") == digest_of(base / f"{scheme}-whole" / "final"), scheme
        kills[scheme] = len(schedule.phases)
    work = training(base / "clock", schedule, settings)
    for _ in range(4):
        forked(work, kill_after_s=float(rng.uniform(0.02, 0.5)) * seconds)
    assert forked(work) == 0
    assert digest_of(base / "clock" / "final") == digest_of(base / f"{scheme}-whole" / "final")
    return kills


def while_fine_tuning(base: Path, rng: np.random.Generator) -> int:
    """Killed before some operations on a file, and at two random steps."""
    schedule = finetuning(9, rate=0.05, recipe=RECIPE)

    def tuning(folder: Path, kill_at: int | None = None) -> Callable[[], None]:
        def data(step: int) -> tuple[Tensor, Tensor]:
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return batches(step, 8)

        def work() -> None:
            folder.mkdir(exist_ok=True)
            net, guide = (fresh(seed).extract(SPACE.largest(8), dropout=RECIPE.dropout) for seed in (0, 1))
            finetune(
                net, schedule, data, folder=folder, settings=Settings(validate_every=3), num_classes=CLASSES, teacher=guide.eval()
            )
            save_tensors(folder / "final", net.state_dict(), {})

        return work

    assert forked(tuning(base / "tuned")) == 0
    whole, operation = digest_of(base / "tuned" / "final"), 0
    while True:
        folder = base / f"tuned-{operation}"
        status = forked(dying(tuning(folder), folder, operation))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert forked(tuning(folder)) == 0, operation
        assert digest_of(folder / "final") == whole, operation
        operation += 4
    folder = base / "tuned-steps"
    for step in sorted(int(s) for s in rng.choice(9, 2, replace=False)):
        assert forked(tuning(folder, step)) == -signal.SIGKILL
        saved = latest(folder)
        assert (saved.step if saved else 0) >= step - step % 3, "at most one epoch is lost"
    assert forked(tuning(folder)) == 0
    assert digest_of(folder / "final") == whole
    return operation


def on_a_full_disk(base: Path) -> dict[str, str]:
    """From the fourth step on no file may be larger than a part of a checkpoint."""
    folder = base / "full"
    message = base / "message"

    def full() -> None:
        def data(step: int, resolution: int) -> tuple[Tensor, Tensor]:
            if step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
            return batches(step, resolution)

        try:
            go(folder, SHORT, data=data, settings=EVERY_STEP)
        except FileError as error:
            message.write_text(str(error))

    assert forked(full) == 0
    saved = latest(folder / "checkpoints")
    assert saved is not None
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert forked(training(folder, SHORT, EVERY_STEP)) == 0
    assert forked(training(base / "roomy", SHORT, EVERY_STEP)) == 0
    assert digest_of(folder / "final") == digest_of(base / "roomy" / "final")
    return {"message": message.read_text(), "step": str(saved.step), "left": " ".join(left)}


if __name__ == "__main__":
    at = Path(sys.argv[1])
    done = {
        "operations": at_every_operation(at, int(sys.argv[3])),
        "kills": in_every_phase(at, np.random.default_rng(int(sys.argv[2]))),
        "tuned": while_fine_tuning(at, np.random.default_rng(int(sys.argv[2]))),
        "disk": on_a_full_disk(at),
    }
    print(json.dumps(done))
