"""Fine-tuning one network: what a plain loop of torch does, the same after any stop, and what it refuses."""

import math
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.calibrate import recalibrate
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, StoppedError, TrainingError
from onceforall.train import Recipe, Schedule, Settings, finetune, finetuning
from onceforall.train.checkpoint import latest
from tiny_training import CLASSES, IMAGES, SPACE, batches, fresh, only, same

ARCH = SPACE.largest(8)
STEPS, EPOCH = 8, 3
KIND = torch.float64  # some gradients are zero but for rounding, which AdamW magnifies
RECIPES = {
    "sgd": Recipe(batch_size=IMAGES, dropout=0.0, weight_decay=0.01, label_smoothing=0.2, distil_weight=0.7),
    "adamw": Recipe(batch_size=IMAGES, optimizer="adamw", dropout=0.0, weight_decay=0.05, label_smoothing=0.1),
}
FULL = Recipe(batch_size=IMAGES, optimizer="adamw", dropout=0.3, ema=0.8, clip=1.0)


def network(dropout: float = 0.0) -> nn.Module:
    return fresh(kind=KIND).extract(ARCH, dropout=dropout)


def teacher() -> nn.Module:
    """Another network of the supernet's space, with statistics of its own."""
    return recalibrate(fresh(5, KIND).extract(ARCH), [batches(100 + i, 8, kind=KIND)[0] for i in range(3)]).network


def tune(folder: Path, schedule: Schedule, *, stop_after: int | None = None, **options: Any) -> dict[str, Tensor]:
    """As a new process would, from what the folder holds; the weights in the end."""
    net, done = network(schedule.recipe.dropout), 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        return done == stop_after

    how = Settings(options.pop("seed", 0), validate_every=EPOCH)
    given = {"teacher": teacher(), "progress": Progress(stopped=should_stop), **options}
    finetune(net, schedule, lambda step: batches(step, 8, kind=KIND), folder=folder, settings=how, num_classes=CLASSES, **given)
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("distil", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_it_is_what_a_plain_loop_does(tmp_path: Path, name: str, distil: bool) -> None:
    recipe = RECIPES[name]
    found = tune(tmp_path, finetuning(STEPS, rate=0.02, recipe=recipe, distil=distil))
    net, guide = network().train(), teacher()
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    norms = [p for layer in net.modules() if isinstance(layer, nn.BatchNorm2d) for p in layer.parameters()]
    others = [p for n, p in net.named_parameters() if n.endswith("bias") and all(p is not q for q in norms)]
    free = {id(p) for p in (*norms, *others)}
    decayed = [p for p in net.parameters() if id(p) not in free]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": [*norms, *others], "weight_decay": 0.0}]
    optimizer = kinds[name](groups, lr=1.0, **options)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * step / STEPS))
        images, labels = batches(step, 8, kind=KIND)
        wanted = (1 - recipe.label_smoothing) * F.one_hot(labels, CLASSES) + recipe.label_smoothing / CLASSES
        if distil:
            with torch.no_grad():
                wanted = wanted + recipe.distil_weight * guide(images).softmax(1)
        loss = -(wanted * net(images).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    start = network().state_dict()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-8, msg=key)
    assert not torch.equal(found["stem.first.conv.weight"], start["stem.first.conv.weight"])


@settings(max_examples=12)
@given(st.sets(st.integers(1, STEPS - 1), max_size=3))
def test_stopped_anywhere(stops: Set[int]) -> None:
    """Bit by bit the weights of an uninterrupted training, dropout and the running mean of the weights included."""
    schedule = finetuning(STEPS, rate=0.02, recipe=FULL)
    with tempfile.TemporaryDirectory() as place:
        whole = tune(Path(place) / "whole", schedule)
        before = 0
        for stop in sorted(stops):
            with pytest.raises(StoppedError, match=rf"stopped at step {stop} of 8 of fine-tuning on request; run the same command"):
                tune(Path(place) / "parts", schedule, stop_after=stop - before)
            before = stop
        assert same(tune(Path(place) / "parts", schedule), whole)


def test_from_the_checkpoint_before_a_torn_one(tmp_path: Path) -> None:
    schedule = finetuning(STEPS, rate=0.02, recipe=FULL)
    whole = tune(tmp_path, schedule)
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["step-000000006.safetensors", "step-000000008.safetensors"], "after every epoch, the last two are kept"
    last = tmp_path / saved[-1]
    last.write_bytes(last.read_bytes()[:500])
    assert same(tune(tmp_path, schedule), whole)


def test_finished_already(tmp_path: Path) -> None:
    schedule = finetuning(STEPS, rate=0.02, recipe=FULL)
    whole = tune(tmp_path, schedule)
    events: list[dict[str, Any]] = []
    assert same(tune(tmp_path, schedule, progress=Progress(event=events.append)), whole)
    assert not only(events, "train")


def test_what_it_reports(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    tune(tmp_path, finetuning(STEPS, rate=0.02, recipe=FULL), progress=Progress(event=events.append))
    assert [e["event"] for e in events] == ["phase", *["train", "epoch"] * 3]
    epochs = only(events, "epoch")
    assert [(e["epoch"], e["epochs"], e["step"]) for e in epochs] == [(1, 3, 3), (2, 3, 6), (3, 3, 8)]
    assert epochs[-1]["remaining_s"] == 0
    assert epochs[0]["remaining_s"] > 0
    assert [e["progress"] for e in only(events, "train")] == [3 / 8, 6 / 8, 1]
    assert only(events, "train")[0]["rate"] == pytest.approx(0.01 * (1 + math.cos(math.pi * 2 / STEPS)))


def test_the_teacher_stays_as_it_is(tmp_path: Path) -> None:
    guide = teacher()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    tune(tmp_path, finetuning(3, rate=0.02, recipe=FULL), teacher=guide)
    assert same(before, guide.state_dict())
    assert not guide.training


def test_dropout_comes_from_the_seed_and_torchs_generator_stays(tmp_path: Path) -> None:
    schedule = finetuning(3, rate=0.02, recipe=FULL)
    state = torch.random.get_rng_state()
    results = [tune(tmp_path / str(i), schedule, seed=seed) for i, seed in enumerate((0, 0, 1))]
    assert torch.equal(state, torch.random.get_rng_state())
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_the_running_mean_is_what_is_kept(tmp_path: Path) -> None:
    found = tune(tmp_path, finetuning(STEPS, rate=0.02, recipe=FULL))
    saved = latest(tmp_path)
    assert saved is not None
    for name in ("stem.first.conv.weight", "head.classifier.bias"):
        assert torch.equal(found[name], saved.tensors[f"ema.{name}"])
        assert not torch.equal(found[name], saved.tensors[f"model.{name}"])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the schedule needs a teacher, and there is none"):
        tune(tmp_path, finetuning(3, rate=0.02, recipe=FULL), teacher=None)
    with pytest.raises(TrainingError, match=r"fine-tuning diverged near step \d: "):
        tune(tmp_path / "high", finetuning(STEPS, rate=1e5, recipe=RECIPES["sgd"]))
    tune(tmp_path, finetuning(3, rate=0.02, recipe=FULL))
    with pytest.raises(CheckpointError, match="the checkpoint belongs to another schedule"):
        tune(tmp_path, finetuning(4, rate=0.02, recipe=FULL))
