"""What `tests/train/test_world.py` runs in two processes, as `torchrun --nproc-per-node 2 two_processes.py FOLDER NAME...` does.

Each scenario is a function of (world, folder) whose result every process writes to FOLDER/NAME-RANK.pt.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from onceforall import Arch, Plan, Space, Supernet
from onceforall.errors import StoppedError, TrainingError
from onceforall.ops import Norm
from onceforall.plan import Segment
from onceforall.train import SCHEMES, Phase, Recipe, Schedule, Settings, World
from tiny_training import CLASSES, IMAGES, SPACE, batches, go, lowering, only

STEPS = 12
RECIPE = Recipe(batch_size=IMAGES, dropout=0.0, ema=0.8, clip=1.0)
SETTINGS = Settings(seed=3, validate_every=5)
KIND = torch.float64
HALVES = ("progressive_shrinking", "alphanet", "best_up")  # all that happens in any scheme


def plan(scheme: str, recipe: Recipe = RECIPE) -> Schedule:
    return SCHEMES[scheme](SPACE, steps=STEPS, rate=0.05, recipe=recipe)


def without_norms(arch: Arch, num_classes: int) -> Plan:
    """The networks of `SPACE` without batch norm."""
    segments = []
    for segment in lowering(arch, num_classes).segments:
        alias: dict[str, str] = {}
        ops = []
        for op in segment.ops:
            inputs = tuple(alias.get(name, name) for name in op.inputs)
            if isinstance(op, Norm):
                alias[op.name] = inputs[0]
            else:
                ops.append(replace(op, inputs=inputs))
        segments.append(Segment(segment.name, segment.in_shape, tuple(ops)))
    return Plan(tuple(segments))


PLAIN = Space("plain", {}, SPACE.resolutions, SPACE.stages, without_norms)


def double(space: Space = SPACE) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Supernet(space, CLASSES).double()


def part(world: World) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """This process's share of every batch."""

    def data(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        images, labels = batches(step, resolution, kind=KIND)
        return images[world.rank :: world.size], labels[world.rank :: world.size]

    return data


def halves(world: World, folder: Path, scheme: str) -> dict[str, Tensor]:
    """Also what one process does with the whole batch."""
    settings = replace(SETTINGS, sync_norm=True)
    return go(folder, plan(scheme), supernet=double(), data=part(world), settings=settings, world=world)


def uninterrupted(world: World, folder: Path) -> dict[str, Tensor]:
    """With batch norm over each process's own images."""
    return go(folder, plan("progressive_shrinking"), supernet=double(), data=part(world), settings=SETTINGS, world=world)


def no_norm(world: World, folder: Path) -> dict[str, Tensor]:
    return go(folder, plan("alphanet"), supernet=double(PLAIN), data=part(world), settings=SETTINGS, world=world)


def own_archs(world: World, folder: Path) -> dict[str, Any]:
    """Each process draws its own networks, and the second has a folder of its own."""
    seen: list[int] = []

    def data(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        seen.append(resolution)
        return part(world)(step, resolution)

    settings = replace(SETTINGS, same_archs=False)
    recipe = replace(RECIPE, dropout=0.3)
    own = folder / str(world.rank)
    weights = go(own, plan("best_up", recipe), supernet=double(), data=data, settings=settings, world=world)
    alike = go(folder / "alike", plan("best_up", recipe), supernet=double(), data=part(world),
               settings=SETTINGS, world=world)  # fmt: skip
    return {
        "weights": weights,
        "alike": alike,
        "resolutions": seen,
        "files": sorted(str(p.relative_to(own)) for p in own.rglob("*")),
    }


def stopped(world: World, folder: Path) -> dict[str, Any]:
    """The second process is asked to stop after its fourth step; both do, and go on."""

    def run(asked: bool) -> dict[str, Tensor]:
        stops = lambda done: asked and world.rank == 1 and done == 4  # noqa: E731
        return go(folder, plan("progressive_shrinking"), supernet=double(), data=part(world), settings=SETTINGS, world=world,
                  stops=stops)  # fmt: skip

    try:
        run(True)
    except StoppedError as error:
        message = str(error)
    return {"message": message, "weights": run(False)}


def diverging(world: World, folder: Path) -> dict[str, Any]:
    """The gradients of the second process are not numbers in one step; later only the first sees a collapse."""
    net, events, state = double(), list[dict[str, Any]](), {"armed": False, "times": 1}

    def data(step: int, resolution: int) -> tuple[Tensor, Tensor]:
        state["armed"] = world.rank == 1 and step == 6 and state["times"] > 0
        state["times"] -= state["armed"]
        return part(world)(step, resolution)

    def validate(network: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
        state["validated"] = state.get("validated", 0) + 1
        return [{"subnet": "largest", "top1": 0.2 if world.rank == 0 and state["validated"] == 3 else 0.9}]

    net.get_parameter("head.classifier.weight").register_hook(lambda grad: grad * torch.nan if state["armed"] else grad)
    weights = go(
        folder, plan("sandwich"), supernet=net, data=data, validate=validate, settings=SETTINGS, world=world, events=events
    )
    return {"weights": weights, "rollbacks": [back["reason"] for back in only(events, "rollback")]}


def other_starts(world: World, folder: Path) -> str:
    """Folders that are not shared."""
    own = folder / str(world.rank)
    if world.rank == 1:
        with suppress(StoppedError):
            go(own, plan("sandwich"), supernet=double(), stops=lambda done: done == 2, data=part(World()), settings=SETTINGS)
    try:
        go(own, plan("sandwich"), supernet=double(), data=part(world), settings=SETTINGS, world=world)
    except TrainingError as error:
        return str(error)
    return "no error"


def exchanges(world: World, folder: Path) -> dict[str, Any]:
    """The methods of `World`."""
    both, first, second, neither = (nn.Parameter(torch.zeros(2, 3)) for _ in range(4))
    both.grad = torch.full((2, 3), 1.0 + world.rank)
    (first if world.rank == 0 else second).grad = torch.full((2, 3), 4.0)
    world.mean_gradients([both, first, second, neither])
    alike = nn.Parameter(torch.zeros(2))
    alike.grad = torch.full((2,), 4.0 * world.rank)
    world.mean_gradients([neither, alike], same=True)
    world.wait()
    return {
        "alike": alike.grad.tolist(),
        "longest": dist.group.WORLD._get_backend(torch.device("cpu")).options._timeout.total_seconds(),  # type: ignore[union-attr]
        "gradients": [None if p.grad is None else p.grad.tolist() for p in (both, first, second, neither)],
        "agree": world.agree([world.rank == 0, world.rank == 1, False]),
        "gather": world.gather({"rank": world.rank}),
        "mean": world.mean(torch.tensor([1.0 + world.rank, 5.0])).tolist(),
        "leads": world.leads,
    }


def killed(world: World, folder: Path) -> dict[str, Tensor]:
    """The second process kills itself once, in the middle of the second phase or later."""
    marker = folder / "killed"

    def stops(done: int) -> bool:
        if world.rank == 1 and done == 8 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return go(
        folder, plan("progressive_shrinking"), supernet=double(), data=part(world), settings=SETTINGS, world=world, stops=stops
    )


def deserted(world: World, folder: Path) -> str:
    """The second process fails and leaves; the first learns of it in its next exchange, whichever that is."""
    if world.rank == 1:
        world.leave()
        return ""
    exchanges: list[Callable[[], object]] = [
        world.wait, lambda: world.gather(1), lambda: world.agree([True]), lambda: world.mean(torch.ones(1)),
    ]  # fmt: skip
    said = set()
    for exchange in exchanges:
        try:
            exchange()
        except TrainingError as error:
            said.add(str(error))
    world.leave()
    return "; ".join(said)


SCENARIOS: dict[str, Callable[[World, Path], Any]] = {
    **{scheme: (lambda world, folder, scheme=scheme: halves(world, folder, scheme)) for scheme in HALVES},  # type: ignore[misc]
    "uninterrupted": uninterrupted,
    "no_norm": no_norm,
    "own_archs": own_archs,
    "stopped": stopped,
    "diverging": diverging,
    "other_starts": other_starts,
    "exchanges": exchanges,
    "killed": killed,
    "deserted": deserted,
}


def main() -> None:
    torch.set_num_threads(1)  # as torchrun has it, also in a process that is forked from one with more
    warnings.simplefilter("error")
    here = World.join()
    here.wait()  # until both are connected to each other
    for name in sys.argv[2:]:
        at = Path(sys.argv[1]) / name
        at.mkdir(exist_ok=True)
        torch.save(SCENARIOS[name](here, at), at.with_name(f"{name}-{here.rank}.pt"))
    if "deserted" not in sys.argv:
        here.leave()
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    torch.save([name for name in threads if "gloo" in name], Path(sys.argv[1]) / f"threads-{here.rank}.pt")


if __name__ == "__main__":
    main()
