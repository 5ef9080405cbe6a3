"""A training of some milliseconds a step on random images, shared by the tests of training and the processes that they start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onceforall import Arch, Plan, Space, Supernet
from onceforall.common.progress import Progress
from onceforall.ops import Dropout, Flatten, GlobalPool, Linear
from onceforall.plan import Segment
from onceforall.space import Choices
from onceforall.spaces.blocks import conv_norm_act, mobile_block
from onceforall.train import SCHEMES, Phase, Recipe, Schedule, Settings, Trainer, World
from onceforall.train.checkpoint import latest

CLASSES = 4
IMAGES = 8
KERNELS = (1, 3)
Batches = Callable[[int, int], tuple[Tensor, Tensor]]
Validate = Callable[[Supernet, Space, Phase], list[dict[str, Any]]]


def lowering(arch: Arch, num_classes: int) -> Plan:
    """A stem, two stages of inverted residual blocks, a classifier."""
    shape = (3, arch.resolution, arch.resolution)
    segments = [Segment("stem", shape, tuple(conv_norm_act("first", "in", shape, 8, kernel=3, stride=2, activation="h_swish")))]
    for s, stage in enumerate(arch.stages):
        for i, block in enumerate(stage.blocks):
            shape = segments[-1].out_shape
            middle = round(shape[0] * block.expand_ratio)
            segments.append(
                mobile_block(
                    f"stages.{s}.{i}", shape, stage.width, middle=middle, kernel=block.kernel, kernels=KERNELS,
                    stride=1 + (s == 1 and i == 0), activation="relu",
                )
            )  # fmt: skip
    shape = segments[-1].out_shape
    head = (
        GlobalPool("pool", ("in",), (shape[0], 1, 1)),
        Flatten("flatten", ("pool",), (shape[0],)),
        Dropout("dropout", ("flatten",), (shape[0],)),
        Linear("classifier", ("dropout",), (num_classes,), shape[0]),
    )
    return Plan((*segments, Segment("head", shape, head)))


STAGE = Choices((8,), (1, 2), KERNELS, (2, 3, 4))
SPACE = Space("tiny", {}, (8, 12), (STAGE, Choices((8, 16), (1, 2), KERNELS, (2, 3, 4))), lowering)


def fresh(seed: int = 0, kind: torch.dtype = torch.float32) -> Supernet:
    """A supernet whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Supernet(SPACE, CLASSES).to(kind)


def batches(step: int, resolution: int, *, images: int = IMAGES, kind: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Random images with colours that tell their classes."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    noise = torch.randn(images, 3, resolution, resolution, generator=generator, dtype=kind)
    return noise + torch.eye(CLASSES, dtype=kind)[labels][:, :3, None, None], labels


def no_validation(network: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
    return []


def go(
    folder: Path,
    schedule: Schedule,
    *,
    supernet: Supernet | None = None,
    data: Batches = batches,
    validate: Validate = no_validation,
    events: list[dict[str, Any]] | None = None,
    settings: Settings = Settings(seed=3, validate_every=6),  # noqa: B008
    stops: Callable[[int], bool] = lambda step: False,
    teacher: nn.Module | None = None,
    world: World = World(),  # noqa: B008
) -> dict[str, Tensor]:
    """Train as a new process would, from what the folder holds; the weights in the end.

    `stops` is asked with the number of steps that this call has done.
    """
    net = supernet or fresh()
    done = 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        return stops(done)

    Trainer(
        net, schedule, data,
        folder=folder, settings=settings, validate=validate,
        progress=Progress(event=(events if events is not None else []).append, stopped=should_stop), teacher=teacher, world=world,
    ).run(latest(folder / "checkpoints"))  # fmt: skip
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit by bit; statistics that were forgotten are NaN in both."""
    return a.keys() == b.keys() and all(torch.equal(a[name].nan_to_num(7), b[name].nan_to_num(7)) for name in a)


def only(events: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in events if record["event"] == event]


STEPS = 12
RECIPE = Recipe(batch_size=IMAGES, dropout=0.3, ema=0.8, clip_value=1.0)


def scheme(name: str, space: Space = SPACE, steps: int = STEPS, rate: float = 0.05, recipe: Recipe = RECIPE) -> Schedule:
    """A schedule of a few steps."""
    return SCHEMES[name](space, steps=steps, rate=rate, recipe=recipe)
