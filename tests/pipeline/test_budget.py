"""Time budgets: every phase is timed as it is going to be trained."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onceforall import Space, Supernet
from onceforall.common.progress import QUIET, Progress
from onceforall.data import DeviceBatches, TrainBatches
from onceforall.errors import TrainingError
from onceforall.options.training import TrainOptions
from onceforall.pipeline import Run
from onceforall.pipeline.training.budget import RESERVE, epochs_within, seconds_per_step, validate_every
from onceforall.pipeline.training.compute import Compute
from onceforall.pipeline.training.teacher import with_external_teacher
from onceforall.space import Choices
from onceforall.train import SCHEMES, Recipe, Schedule, World
from tiny_run import TRAINING
from tiny_training import CLASSES, IMAGES, SPACE, batches, lowering

CPU = Compute(torch.device("cpu"), "float32")
ONE = Space("tiny", {}, (8,), (Choices((8,), (1,), (3,), (2,)),) * 2, lowering)  # a single network: every step is alike
PAUSE = 0.03


class Slow(nn.Module):
    """A teacher that takes its time."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(PAUSE)
        return torch.zeros(len(images), CLASSES)


def plan(scheme: str, space: Space = ONE, **recipe: Any) -> Callable[[int], Schedule]:
    return lambda steps: SCHEMES[scheme](space, steps=steps, rate=0.1, recipe=Recipe(batch_size=IMAGES, **recipe))


def epochs(
    schedule: Callable[[int], Schedule], data: Callable[[int, int], tuple[Tensor, Tensor]], teacher: nn.Module | None
) -> float:
    return epochs_within(
        60.0, Supernet(ONE, CLASSES), schedule, data, lambda: None, batches_per_epoch=10, compute=CPU, teacher=teacher
    )


def test_what_a_step_waits_for_is_in_the_budget() -> None:
    """Making batches, and another network that teaches: sleeping gives a bound that noise cannot cross."""

    def slow(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        time.sleep(PAUSE)
        return batches(step, resolution)

    most = (1 - RESERVE) * 60 / (10 * PAUSE)
    assert 0 < epochs(plan("single_path"), slow, None) < most
    assert 0 < epochs(lambda steps: with_external_teacher(plan("sandwich")(steps)), batches, Slow()) < most
    assert 0 < epochs(lambda steps: with_external_teacher(plan("sandwich")(steps)), slow, Slow()) < most / 2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_timing_changes_no_weight(scheme: str, optimizer: str) -> None:
    net = Supernet(SPACE, CLASSES)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    schedule = plan(scheme, SPACE, optimizer=optimizer, ema=0.9)(40)
    found = seconds_per_step(net, schedule, batches, CPU, None)
    assert len(found) == len(schedule.phases)
    assert min(found) > 0
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_of_several_processes_each_has_its_part(tmp_path: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = importlib.import_module("onceforall.pipeline.train")  # the package gives the function of that name
    seen: list[int] = []

    class Enough(Exception):
        pass

    def look(budget_s: float, supernet: Supernet, schedule: Any, data: Any, validate: Any, **options: Any) -> float:
        seen.extend([len(data(0, 16)[1]), len(validate()), options["batches_per_epoch"]])
        raise Enough

    monkeypatch.setattr(pipeline, "epochs_within", look)
    options = TrainOptions("digits", out=tmp_path / "run", **{**TRAINING, "epochs": None, "budget_s": 60.0})
    for size in (1, 2):
        with pytest.raises(Enough):
            pipeline._begin(options, World(0, size), CPU, QUIET)
    assert seen == [32, 3, 3, 16, 2, 3]
    with pytest.raises(Exception, match="the batch size is 32, which 3 processes cannot share evenly"):
        pipeline._begin(options, World(0, 3), CPU, QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("fits", "said"), [(True, "are copied to the GPU"), (False, "do not fit into the GPU's memory")])
def test_where_batches_are_made_is_told(trained: Path, monkeypatch: pytest.MonkeyPatch, fits: bool, said: str) -> None:
    """Without a GPU, by a device that says that it is one."""
    module = importlib.import_module("onceforall.pipeline.training.batches")
    run = Run.open(trained)
    own = run.train_batches(run.splits(), 16)

    class OnTheCpu(DeviceBatches):
        def __init__(self, batches: TrainBatches, device: torch.device, *, whole: bool = True) -> None:
            super().__init__(batches, torch.device("cpu"), whole=whole)

        @staticmethod
        def fits(batches: TrainBatches, device: torch.device) -> bool:
            return fits

    monkeypatch.setattr(module, "DeviceBatches", OnTheCpu)
    events: list[dict[str, Any]] = []
    with module.batch_maker(own, Compute(torch.device("cuda", 0), "float32"), Progress(event=events.append)) as make:
        assert torch.equal(make(0, 16)[1], own.batch(0, 16)[1])
    (event,) = events
    assert event["event"] == "note"
    assert said in event["text"]


def test_a_short_schedule_has_few_validations() -> None:
    """Only those that there will be are taken off the budget."""

    def slow(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        time.sleep(PAUSE)
        return batches(step, resolution)

    budget, pause = 5.0, 0.5
    found = epochs_within(
        budget, Supernet(ONE, CLASSES), plan("single_path"), slow, lambda: time.sleep(pause), batches_per_epoch=10, compute=CPU
    )
    steps = round(10 * found)
    assert steps >= 1
    assert steps * PAUSE + pause * (1 + steps // validate_every(steps, 10)) <= (1 - RESERVE) * budget
    assert validate_every(steps, 10) == 20


def test_too_little() -> None:
    with pytest.raises(TrainingError, match="a budget of 1 s is too little") as refused:
        epochs_within(
            1.0, Supernet(ONE, CLASSES), plan("single_path"), batches, lambda: time.sleep(1), batches_per_epoch=10, compute=CPU
        )
    assert "\n" not in str(refused.value)
