"""The loop: resumed anywhere it gives the weights of an uninterrupted run, bit by bit; it never saves a diverged state."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import onceforall
from onceforall import Space, Supernet
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, FileError, StoppedError, TrainingError
from onceforall.train import Phase, Recipe, Schedule, Settings, Trainer, progressive_shrinking
from onceforall.train.checkpoint import latest, load_tensors

SPACE = onceforall.space(
    "mobilenet_v3",
    width=0.1,
    resolutions=(16, 24),
    depths=(1, 2),
    kernels=(3, 5),
    expand_ratios=(2, 3, 4),
    strides=(1, 1, 2, 2, 2, 1, 1),
)
CLASSES = 4
RECIPES = {
    "sgd": Recipe(batch_size=4, dropout=0.3, clip=1.0),
    "adamw": Recipe(batch_size=4, optimizer="adamw", zero_residual=True),
    "plain": Recipe(batch_size=4, momentum=0.0),
}
STEPS = 14


def schedule(name: str = "sgd") -> Schedule:
    rate = 0.005 if name == "adamw" else 0.05
    subnets = {"kernel": 1, "depth": 2, "expand": 2}
    made = progressive_shrinking(SPACE, steps=STEPS, rate=rate, recipe=RECIPES[name], subnets=subnets)
    assert [phase.name for phase in made.phases] == ["largest", "kernel", "depth", "expand-2", "expand-3"]
    return made


def batches(step: int, resolution: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, resolution, resolution, generator=generator), torch.randint(CLASSES, (4,), generator=generator)


def fresh(space: Space = SPACE, classes: int = CLASSES) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Supernet(space, classes)


def go(
    folder: Path,
    plan: Schedule,
    *,
    stops: Callable[[int], bool] = lambda step: False,
    supernet: Supernet | None = None,
    data: Callable[[int, int], tuple[Tensor, Tensor]] = batches,
    events: list[dict[str, Any]] | None = None,
    settings: Settings = Settings(seed=3, validate_every=6),  # noqa: B008
) -> dict[str, Tensor]:
    """Train in a new process, as it were, from what the folder holds; the weights in the end."""
    net = supernet or fresh()
    start = latest(folder / "checkpoints")
    done = start.step if start else 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        return stops(done)

    def validate(network: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
        network.extract(space.smallest()).eval()
        torch.rand(3)  # validation may use torch's generator
        return [{"subnet": "smallest", "top1": 0.5}]

    torch.manual_seed(torch.seed())  # nothing may depend on torch's own generator
    Trainer(
        net,
        plan,
        data,
        folder=folder,
        settings=settings,
        validate=validate,
        progress=Progress(event=(events if events is not None else []).append, stopped=should_stop),
    ).run(start)
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name].nan_to_num(7), b[name].nan_to_num(7)) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return {name: go(tmp_path_factory.mktemp(name), schedule(name)) for name in RECIPES}


@pytest.mark.parametrize("stop", range(1, STEPS, 4))
def test_stopped_at_any_step(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]], stop: int) -> None:
    name = list(RECIPES)[stop % len(RECIPES)]
    with pytest.raises(StoppedError, match=f"stopped at step {stop} of {STEPS} on request; continue with --resume") as stopped:
        go(tmp_path, schedule(name), stops=lambda step: step == stop)
    assert stopped.value.exit_code == 130
    assert same(go(tmp_path, schedule(name)), uninterrupted[name])


@pytest.mark.parametrize("name", ["adamw"])
def test_stopped_after_every_step(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]], name: str) -> None:
    events: list[dict[str, Any]] = []
    for _ in range(STEPS - 1):
        with pytest.raises(StoppedError):
            go(tmp_path, schedule(name), stops=lambda step: True, events=events)
    assert same(go(tmp_path, schedule(name), stops=lambda step: True, events=events), uninterrupted[name])
    assert [event["step"] for event in events if event["event"] == "train"] == list(range(1, STEPS + 1))
    assert [event["phase"] for event in events if event["event"] == "phase"] == [phase.name for phase in schedule().phases]
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)


def test_resumed_from_the_older_checkpoint(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]]) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, schedule(), stops=lambda step: step == 9)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    assert same(go(tmp_path, schedule()), uninterrupted["sgd"])


def test_a_finished_training_is_left_alone(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]]) -> None:
    events: list[dict[str, Any]] = []
    for _ in range(2):
        assert same(go(tmp_path, schedule(), events=events), uninterrupted["sgd"])
    assert len([event for event in events if event["event"] == "phase"]) == 5


def test_the_teacher_is_that_of_the_first_phase(tmp_path: Path) -> None:
    first = schedule().phases[0].steps
    with pytest.raises(StoppedError):
        go(tmp_path, schedule(), stops=lambda step: step == first)
    start = latest(tmp_path / "checkpoints")
    assert start is not None
    last = {name.removeprefix("model."): value for name, value in start.tensors.items() if name.startswith("model.")}
    net = fresh()
    net.load_state_dict(last)
    go(tmp_path, schedule())
    teacher, _ = load_tensors(tmp_path / "teacher.safetensors")
    assert same(teacher, dict(net.extract(SPACE.largest()).named_parameters()))


def test_seeds_differ(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]]) -> None:
    assert not same(go(tmp_path, schedule(), settings=Settings(seed=4)), uninterrupted["sgd"])


def test_events(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    plan = replace(schedule(), phases=(replace(schedule().phases[0], steps=45),))
    go(tmp_path, plan, events=events, settings=Settings(validate_every=30))
    assert [(event["event"], event["step"]) for event in events] == [
        ("phase", 0), ("train", 20), ("train", 30), ("validation", 30), ("train", 40), ("train", 45), ("validation", 45),
    ]  # fmt: skip
    assert all(event["phase"] == "largest" for event in events)


# -- what goes wrong -------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    def poisoned(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        images, labels = batches(step, resolution)
        return images * (torch.nan if step == 9 else 1), labels

    events: list[dict[str, Any]] = []
    phase, within = schedule().at(9)
    message = rf"the loss is no longer finite near step 1\d in phase {phase.name}, after 3 returns .*lower --rate"
    with pytest.raises(TrainingError, match=message):
        go(tmp_path, schedule(), data=poisoned, events=events)
    start = latest(tmp_path / "checkpoints")
    assert start is not None
    assert start.step == 9 - within
    backs = [event for event in events if event["event"] == "rollback"]
    assert [event["rate_factor"] for event in backs] == [0.5, 0.25, 0.125]
    assert all(value.isfinite().all() for name, value in start.tensors.items() if "running" not in name)
    assert all(event["step"] <= 9 for event in events if event["event"] != "phase")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    plan = replace(schedule(), phases=schedule().phases[:1])
    net = fresh()
    with torch.no_grad():  # weights that the first phase does not use
        net.get_parameter("stages.0.0.depthwise.conv.5to3_matrix")[0, 0] = torch.inf
    with pytest.raises(TrainingError, match="the initial weights are not finite"):
        go(tmp_path, plan, supernet=net)
    assert latest(tmp_path / "checkpoints") is None


def test_another_schedule(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, schedule(), stops=lambda step: step == 4)
    with pytest.raises(CheckpointError, match="another schedule: resume with the arguments of the first start"):
        go(tmp_path, schedule("plain"))


@pytest.mark.parametrize("other", [fresh(classes=7), fresh(onceforall.space("mobilenet_v3", width=0.2))])
def test_another_network(tmp_path: Path, other: Supernet) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, schedule(), stops=lambda step: step == 2)
    with pytest.raises(CheckpointError, match="the weights do not fit this space and class count"):
        go(tmp_path, schedule(), supernet=other)


def test_a_teacher_that_is_lost_or_another(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, schedule(), stops=lambda step: step == 10)
    path = tmp_path / "teacher.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(CheckpointError, match="damaged"):
        go(tmp_path, schedule())
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    path.write_bytes(newest.read_bytes())
    with pytest.raises(CheckpointError, match="not the teacher of this run"):
        go(tmp_path, schedule())
    path.unlink()
    with pytest.raises(FileError, match="no such file"):
        go(tmp_path, schedule())


def test_stop_at_the_last_step_is_the_end(tmp_path: Path, uninterrupted: dict[str, dict[str, Tensor]]) -> None:
    assert same(go(tmp_path, schedule(), stops=lambda step: step == STEPS), uninterrupted["sgd"])


def test_torchs_generator_is_left_alone(tmp_path: Path) -> None:
    plan = replace(schedule(), phases=schedule().phases[:1])
    torch.manual_seed(5)
    Trainer(fresh(), plan, batches, tmp_path, validate=lambda net, space, phase: []).run(None)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
