"""A step leaves the device alone: nothing is read from it, but the choice among candidates, once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from onceforall import Supernet
from onceforall.supernets.sorting import sort_channels
from onceforall.train import SCHEMES, STRATEGIES, Recipe, train_step
from onceforall.train.state import State
from onceforall.train.step import choose_subnets
from tiny_training import CLASSES, IMAGES, SPACE, batches, fresh

META = torch.device("meta")  # tensors without content: reading one is an error
RECIPES = {
    "sgd": Recipe(batch_size=IMAGES, dropout=0.2, ema=0.9, clip=1.0, clip_value=1.0),
    "adamw": Recipe(batch_size=IMAGES, optimizer="adamw", ema=0.9),
}


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "best_up"])
def test_nothing_is_read(scheme: str, optimizer: str) -> None:
    schedule = SCHEMES[scheme](SPACE, steps=40, rate=0.1, recipe=RECIPES[optimizer])
    net = Supernet(SPACE, CLASSES).to(META).train()
    state = State(net, schedule)
    frozen = net.extract(SPACE.largest()).train()
    for phase in schedule.phases:
        if phase.sort is not None:
            sort_channels(net, phase.sort, along=state.ema)
        groups = STRATEGIES[phase.strategy](SPACE.keep_largest(**phase.keep), phase.subnets, np.random.default_rng(0))
        images = torch.empty(IMAGES, 3, groups[0][0].resolution, groups[0][0].resolution, device=META)
        labels = torch.empty(IMAGES, dtype=torch.long, device=META)
        loss = train_step(
            net,
            choose_subnets(net, groups, (images, labels)),
            (images, labels),
            state.optimizer,
            schedule.recipe,
            phase,
            frozen if phase.distil and phase.teacher == "frozen" else None,
        )
        state.follow()
        state.step += 1
        assert loss.is_meta
        with pytest.raises((RuntimeError, NotImplementedError)):
            float(loss)


class Reads(TorchDispatchMode):
    """Counts what gives a number to Python, and choices."""

    def __init__(self) -> None:
        super().__init__()
        self.items = self.choices = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.items += "_local_scalar_dense" in str(func)
        self.choices += "argmin" in str(func)
        return func(*args, **(kwargs or {}))


def test_candidates_are_chosen_in_one_go() -> None:
    """As by looking at each group alone, also where groups differ in size."""
    net = fresh().train()
    images, labels = batches(0, 12)
    groups = STRATEGIES["best_up"](SPACE, 6, np.random.default_rng(1))
    groups = [*groups[:-1], groups[-1][:2]]
    groups = [tuple(replace(arch, resolution=12) for arch in group) for group in groups]
    assert sorted({len(group) for group in groups}) == [1, 2, 3]
    with Reads() as reads:
        chosen = choose_subnets(net, groups, (images, labels))
    assert (reads.items, reads.choices) == (0, 1)
    assert chosen == [choose_subnets(net, [group], (images, labels))[0] for group in groups]
    with torch.no_grad():
        for arch, group in zip(chosen, groups, strict=True):
            losses = [float(torch.nn.functional.cross_entropy(net(images, other), labels)) for other in group]
            assert group.index(arch) == int(np.argmin(losses))
