"""The guard against divergence: back to the last good checkpoint at half the rate, three times at most, resumable anywhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onceforall import Space, Supernet
from onceforall.calibrate import recalibrate
from onceforall.errors import CheckpointError, StoppedError, TrainingError
from onceforall.train import SCHEMES, Phase, Recipe, Schedule, Settings, progressive_shrinking
from onceforall.train.checkpoint import digest_of, last_good, latest, load_tensors, save_tensors
from onceforall.train.schedule import learning_rate
from tiny_training import CLASSES, IMAGES, SPACE, batches, fresh, go, only, same

STEPS = 20
RECIPE = Recipe(batch_size=IMAGES, dropout=0.2, ema=0.9)
PLAN = progressive_shrinking(SPACE, steps=STEPS, rate=0.05, recipe=RECIPE)
ENDS = [sum(phase.steps for phase in PLAN.phases[: i + 1]) for i in range(len(PLAN.phases))]
SETTINGS = Settings(seed=3, validate_every=3)
Validated = list[dict[str, Any]]


class Fault:
    """Gradients of the classifier that are not numbers, in a step that is met so often."""

    def __init__(self, step: int, times: int) -> None:
        self.step, self.times, self.armed = step, times, False

    def data(self, step: int, resolution: int) -> tuple[Tensor, Tensor]:
        self.armed = step == self.step and self.times > 0
        self.times -= self.armed
        return batches(step, resolution)

    def into(self, net: Supernet) -> Supernet:
        net.get_parameter("head.classifier.weight").register_hook(lambda grad: grad * torch.nan if self.armed else grad)
        return net


def diverge(folder: Path, fault: Fault, *, plan: Schedule = PLAN, **options: Any) -> dict[str, Tensor]:
    return go(folder, plan, supernet=fault.into(fresh()), data=fault.data, settings=options.pop("settings", SETTINGS), **options)


def finite(weights: dict[str, Tensor]) -> bool:
    return all(value.isfinite().all() for name, value in weights.items() if "running" not in name)


def good_before(step: int) -> int:
    """The last step at which training was validated, at or before a step."""
    return max([0, *(s for s in range(1, step + 1) if s % SETTINGS.validate_every == 0 or s in ENDS)])


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [
        ("sgd", 0),
        ("sgd", ENDS[0] - 1),
        ("sgd", ENDS[0]),
        ("sgd", STEPS - 1),
        ("adamw", 1),
        ("adamw", ENDS[0] + 1),
        ("adamw", ENDS[2]),
    ],
)
def test_once(tmp_path: Path, step: int, optimizer: str) -> None:
    plan = replace(PLAN, recipe=replace(RECIPE, optimizer=optimizer))
    events: list[dict[str, Any]] = []
    assert finite(diverge(tmp_path, Fault(step, 1), plan=plan, events=events))
    (back,) = only(events, "rollback")
    assert (back["step"], back["rate_factor"]) == (good_before(step), 0.5)
    assert step < back["lost_step"] <= step + SETTINGS.validate_every
    assert "weights are no longer finite" in back["reason"] or "loss is no longer finite" in back["reason"]
    before, after = events[: events.index(back)], events[events.index(back) :]
    for part, factor in ((before, 1.0), (after, 0.5)):
        for record in only(part, "train"):
            assert record["rate"] == pytest.approx(factor * learning_rate(*plan.at(record["step"] - 1)))
    assert all(torch.tensor(record["loss"]).isfinite() for record in only(events, "train"))
    assert only(after, "train")[-1]["step"] == STEPS
    saved = latest(tmp_path / "checkpoints")
    assert saved is not None
    assert (saved.step, saved.facts["rate_factor"], saved.facts["rollbacks"]) == (STEPS, 0.5, 1)


def test_what_was_lost_leaves_no_trace(tmp_path: Path) -> None:
    """After a rollback, training is as if the good checkpoint had been loaded with half the rate: optimiser, mean and all."""
    lost = 7
    good = good_before(lost)
    final = diverge(tmp_path / "a", Fault(lost, 1))
    with pytest.raises(StoppedError):
        go(tmp_path / "b", PLAN, stops=lambda done: done == good, settings=SETTINGS)
    path = tmp_path / "b" / "checkpoints" / f"step-{good:09d}.safetensors"
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors, {**facts, "rate_factor": 0.5, "rollbacks": 1})
    assert same(go(tmp_path / "b", PLAN, settings=SETTINGS), final)


@pytest.mark.parametrize("step", [2, ENDS[0], ENDS[1] + 1])
def test_stopped_after_every_step(tmp_path: Path, step: int) -> None:
    """Also right after a rollback: the lower rate and the count are kept, and the weights in the end are the same."""
    fault, events = Fault(step, 2), list[dict[str, Any]]()
    whole = diverge(tmp_path / "whole", Fault(step, 2))
    for _ in range(STEPS + 2 * SETTINGS.validate_every):
        try:
            final = diverge(tmp_path / "each", fault, stops=lambda done: True, events=events)
            break
        except StoppedError:
            continue
    assert same(final, whole)
    assert [back["rate_factor"] for back in only(events, "rollback")] == [0.5, 0.25]
    assert [back["lost_step"] for back in only(events, "rollback")] == [step + 1] * 2, "a stop looks at the weights first"
    saved = latest(tmp_path / "each" / "checkpoints")
    assert saved is not None
    assert (saved.facts["rate_factor"], saved.facts["rollbacks"]) == (0.25, 2)


def test_every_time(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    phase, _ = PLAN.at(7)
    message = (
        rf"^the (weights are|loss is) no longer finite near step \d+ in phase {phase.name}, after 3 returns to a checkpoint "
        r"with ever lower rates \(now 0.125 of the schedule's\): use a lower --rate or look at the images; "
        "the last good state is in "
    )
    with pytest.raises(TrainingError, match=message) as stopped:
        diverge(tmp_path, Fault(7, 99), events=events)
    assert str(tmp_path / "checkpoints") in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert [back["rate_factor"] for back in only(events, "rollback")] == [0.5, 0.25, 0.125]
    saved = latest(tmp_path / "checkpoints")
    assert saved is not None
    assert (saved.step, saved.facts["rollbacks"]) == (good_before(7), 3)
    assert all(value.isfinite().all() for name, value in saved.tensors.items() if "running" not in name)
    with pytest.raises(TrainingError, match="after 3 returns"):  # a resume has no more tries than that
        diverge(tmp_path, Fault(7, 1))
    assert finite(diverge(tmp_path, Fault(7, 0))), "but goes on if the cause is gone"


# -- collapse --------------------------------------------------------------------------------------------------------------


def reports(values: Callable[[int], float], calls: list[int]) -> Callable[[Supernet, Space, Phase], Validated]:
    """Top-1 of the largest network by the number of the call."""

    def validate(net: Supernet, space: Space, phase: Phase) -> Validated:
        calls.append(len(calls))
        return [{"subnet": "smallest", "top1": 0.0}, {"subnet": "largest", "top1": values(calls[-1])}]

    return validate


def test_collapse_once(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    calls: list[int] = []
    go(tmp_path, PLAN, settings=SETTINGS, events=events, validate=reports(lambda call: 0.26 if call == 2 else 0.9, calls))
    (back,) = only(events, "rollback")
    assert back["reason"] == "the largest network collapsed from 90.0% to 26.0% top-1"
    assert only(events, "train")[-1]["step"] == STEPS
    assert len(calls) == len({s for s in range(1, STEPS + 1) if s % 3 == 0 or s in ENDS}) + 1


def test_collapse_always(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(
        TrainingError, match=r"the largest network collapsed from 90.0% to 10.0% top-1 near step .* after 3 returns"
    ):
        go(tmp_path, PLAN, settings=SETTINGS, validate=reports(lambda call: 0.9 if call < 2 else 0.1, calls))
    assert len(calls) == 6
    saved = latest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.facts["best_top1"] == 0.9


def test_collapse_is_remembered_over_a_resume(tmp_path: Path) -> None:
    """What the largest network had reached is part of the checkpoint."""
    with pytest.raises(StoppedError):
        go(tmp_path, PLAN, settings=SETTINGS, validate=reports(lambda call: 0.9, []), stops=lambda done: done == 5)
    events: list[dict[str, Any]] = []
    go(tmp_path, PLAN, settings=SETTINGS, validate=reports(lambda call: 0.2 if call == 0 else 0.8, []), events=events)
    (back,) = only(events, "rollback")
    assert back["step"] == good_before(5)


@pytest.mark.parametrize(
    ("classes", "best", "then", "collapsed"),
    [
        (2, 0.95, 0.5, True), (2, 0.95, 0.7, False), (2, 0.7, 0.5, False), (3, 0.9, 0.35, True), (4, 0.9, 0.3, True),
        (4, 0.9, 0.5, False), (4, 0.4, 0.25, False), (10, 0.5, 0.1, True), (10, 0.28, 0.1, False), (10, 0.9, 0.24, True),
        (100, 0.5, 0.01, True), (100, 0.02, 0.01, False), (100, 0.5, 0.15, False),
    ],
)  # fmt: skip
def test_what_counts_as_collapse(tmp_path: Path, classes: int, best: float, then: float, collapsed: bool) -> None:
    """A network that had learnt a good deal, and lost most of what it knew beyond chance."""
    plan = SCHEMES["single_path"](SPACE, steps=3, rate=0.01, recipe=RECIPE)
    events: list[dict[str, Any]] = []
    values = [best, then, best, best]
    go(
        tmp_path, plan, supernet=Supernet(SPACE, classes), events=events, settings=Settings(validate_every=1),
        data=lambda step, r: (batches(step, r)[0], batches(step, r)[1] % classes), validate=reports(lambda call: values[call], []),
    )  # fmt: skip
    assert len(only(events, "rollback")) == collapsed


# -- other signs -----------------------------------------------------------------------------------------------------------


def test_weights_without_statistics(tmp_path: Path) -> None:
    """Finite weights whose activations are not: a validation that cannot be made counts as divergence."""
    events: list[dict[str, Any]] = []
    calls: list[int] = []

    def validate(net: Supernet, space: Space, phase: Phase) -> Validated:
        calls.append(len(calls))
        images = batches(0, 12)[0] * (1e30 if calls[-1] == 2 else 1)
        recalibrate(net.extract(space.largest()), [images])
        return [{"subnet": "largest", "top1": 0.5}]

    assert finite(go(tmp_path, PLAN, settings=SETTINGS, events=events, validate=validate))
    (back,) = only(events, "rollback")
    assert back["reason"].endswith("is not finite after recalibration: the weights have diverged")
    assert back["rate_factor"] == 0.5


def test_a_loss_far_above_chance(tmp_path: Path) -> None:
    """Finite, and hopeless."""
    events: list[dict[str, Any]] = []
    plan = SCHEMES["single_path"](SPACE, steps=STEPS, rate=1e5, recipe=RECIPE)
    with pytest.raises(
        TrainingError,
        match=r"the (loss rose to \S+, far above the 2.77 of an untrained network|.*finite) near step .* use a lower --rate",
    ):
        go(tmp_path, plan, settings=SETTINGS, events=events)
    assert any("the loss rose to" in back["reason"] for back in only(events, "rollback"))


# -- the frozen teacher ----------------------------------------------------------------------------------------------------


def test_back_to_the_step_at_which_the_teacher_is_made(tmp_path: Path) -> None:
    """Its weights are those it had."""
    assert PLAN.teacher_step == ENDS[0] == good_before(ENDS[0])
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: done == ENDS[0])
    fault = Fault(ENDS[0], 1)
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: True)
    first = digest_of(tmp_path / "teacher.safetensors")
    other = tmp_path / "other"
    events: list[dict[str, Any]] = []
    diverge(other, fault, events=events)
    assert only(events, "rollback")[0]["step"] == ENDS[0]
    assert digest_of(other / "teacher.safetensors") == first


def test_back_over_the_step_at_which_the_teacher_is_made(tmp_path: Path) -> None:
    """The largest network collapses at the end of its phase: it is trained again, and what it becomes is the teacher."""
    calls: list[int] = []
    validations = sorted({s for s in range(1, ENDS[0] + 1) if s % 3 == 0 or s == ENDS[0]})
    collapse = reports(lambda call: 0.2 if call == validations.index(ENDS[0]) else 0.9, calls)
    steps: list[int] = []

    def until_the_teacher(done: int) -> bool:
        steps.append(done)
        return done == ENDS[0] + ENDS[0] - validations[-2]

    with pytest.raises(StoppedError):
        go(tmp_path, PLAN, settings=SETTINGS, validate=collapse, stops=until_the_teacher)
    saved = latest(tmp_path / "checkpoints")
    assert saved is not None
    assert (saved.step, saved.facts["rollbacks"]) == (ENDS[0], 1)
    net = fresh()
    net.load_state_dict({name.removeprefix("model."): v for name, v in saved.tensors.items() if name.startswith("model.")})
    assert finite(go(tmp_path, PLAN, settings=SETTINGS))
    teacher, _ = load_tensors(tmp_path / "teacher.safetensors")
    assert same(teacher, {name: p.detach() for name, p in net.extract(SPACE.largest()).named_parameters()})


# -- the file to go back to ------------------------------------------------------------------------------------------------


def test_the_good_one_outlives_the_others(tmp_path: Path) -> None:
    """A checkpoint after every step, none of them validated: the last two are kept, and the good one."""
    settings = Settings(seed=3, validate_every=1000, checkpoint_every_s=-1.0)
    last = ENDS[-1] - 1
    seen: list[tuple[int, list[int]]] = []

    def look(done: int) -> bool:
        names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.safetensors"))
        assert "good.safetensors" in names
        seen.append((last_good(tmp_path / "checkpoints").step, [int(name[5:14]) for name in names[1:]]))
        return False

    events: list[dict[str, Any]] = []
    diverge(tmp_path, Fault(last, 1), settings=settings, events=events, stops=look)
    for done, (good, steps) in enumerate(seen[: last + 1]):
        assert good == max([0, *(end for end in ENDS if end <= done)])
        assert steps == [s for s in (done - 1, done) if s >= 0]
    (back,) = only(events, "rollback")
    assert (back["step"], back["lost_step"]) == (ENDS[-2], ENDS[-1])
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_damaged_good_file(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: done == 4)
    path = tmp_path / "checkpoints" / "good.safetensors"
    content = path.read_bytes()
    path.unlink()  # it may be another name of a checkpoint
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"good.safetensors: damaged or not a file of onceforall") as error:
        diverge(tmp_path, Fault(4, 1))
    assert "\n" not in str(error.value)
    assert finite(diverge(tmp_path, Fault(0, 0))), "nothing was lost but the way back"


def test_a_run_without_a_good_file(tmp_path: Path) -> None:
    """As version 0.1 left it: where it is resumed is what it goes back to."""
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: done == 4)
    (tmp_path / "checkpoints" / "good.safetensors").unlink()
    events: list[dict[str, Any]] = []
    assert finite(diverge(tmp_path, Fault(4, 1), events=events))
    assert only(events, "rollback")[0]["step"] == 4


def test_a_damaged_checkpoint_is_never_the_good_one(tmp_path: Path) -> None:
    """The newest is damaged, training goes on from the one before: what it saves then is good, not the newest name."""
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: done == 4)
    with pytest.raises(StoppedError):
        diverge(tmp_path, Fault(0, 0), stops=lambda done: done == 3)
    newest = tmp_path / "checkpoints" / "step-000000007.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    events: list[dict[str, Any]] = []
    settings = Settings(seed=3, validate_every=1)
    assert finite(diverge(tmp_path, Fault(6, 1), settings=settings, events=events))
    assert only(events, "rollback")[0]["step"] == 6


def test_weights_to_start_from(tmp_path: Path) -> None:
    net = fresh()
    with torch.no_grad():
        net.get_parameter("head.classifier.bias")[CLASSES - 1] = torch.nan
    with pytest.raises(TrainingError, match="the initial weights are not finite"):
        go(tmp_path, PLAN, supernet=net)
    assert latest(tmp_path / "checkpoints") is None
