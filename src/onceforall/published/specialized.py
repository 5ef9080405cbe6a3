"""The original's specialized networks: a folder with net.config, run.config and, if downloaded, the weights `init`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import fx, nn

from ..arch import Arch, Block, Stage
from ..common.files import make_folder, read_json, write_json
from ..errors import ArchError, CheckpointError, FileError
from ..nn.static import build
from ..nn.tensor_files import read_tensors
from ..plan import Plan, Segment
from ..space import Space
from .names import CLASSES, original_names
from .read_config import plan_from_config
from .weights import NAMES, located, matched, published_space, save_checkpoint
from .write_config import net_config

WEIGHTS = ("init", "init.safetensors")


@dataclass(frozen=True)
class Specialized:
    """One of the original's specialized networks.

    Args:
        plan: every operation with its shape.
        model: the plain torch network, in eval mode. Input (batch, 3, resolution, resolution), output (batch, classes).
        has_weights: whether weights were read; otherwise the model's are random.
        space: the first of the given spaces that contains the network; None if none does.
        arch: the network in that space; None if no space contains it.
    """

    plan: Plan
    resolution: int
    model: fx.GraphModule
    has_weights: bool
    space: Space | None
    arch: Arch | None


def specialized(folder: Path | str, *, spaces: Sequence[Space] | None = None, weights: Path | str | None = None) -> Specialized:
    """Read a specialized network as published by the original project.

    Args:
        folder: a folder with net.config, run.config and optionally the weights, a file named init.
        spaces: spaces to search for the network; None searches the four published spaces. A published network of 236 pixels, for
            example, is only found in `onceforall.space("mobilenet_v3", width=1.2, resolutions=(236,))`.
        weights: another file of weights; "random" for random ones; None for the weights in the folder.

    Raises:
        FileError: a file is missing or is not JSON.
        ArchError: a configuration that cannot be read; names the part.
        CheckpointError: weights that are damaged or do not fit.
    """
    folder = Path(folder)
    if not (folder / "net.config").is_file():
        raise FileError(f"{folder}: has no net.config: give the folder of one of the original's specialized networks")
    run = read_json(folder / "run.config")
    if not isinstance(run, dict) or "image_size" not in run:
        raise ArchError(f"{folder / 'run.config'}: has no image_size, the input size in pixels")
    config = read_json(folder / "net.config")
    try:
        plan = plan_from_config(config, run["image_size"])
    except ArchError as error:
        raise ArchError(f"{folder}: {error}") from None
    inside = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    file = inside if weights is None else None if weights == "random" else Path(weights)
    with torch.device("cpu" if file is None else "meta"):  # no initialization of what is overwritten
        model = build(plan)
    if file is not None:
        family = next(family for family, name in CLASSES.items() if name == config["name"])
        names = original_names(family, plan, model.state_dict())
        try:
            loaded = matched(model.state_dict(), names, read_tensors(file), what=f"the network of {folder / 'net.config'}")
        except CheckpointError as error:
            raise CheckpointError(located(file, error)) from None
        model.load_state_dict(loaded, assign=True)
    model = model.to(memory_format=torch.channels_last).eval()
    candidates = [published_space(name) for name in NAMES] if spaces is None else spaces
    pairs = ((space, arch) for space in candidates if (arch := recognise(space, plan)) is not None)
    space, arch = next(pairs, (None, None))
    return Specialized(plan, run["image_size"], model, file is not None, space, arch)


def save_specialized(folder: Path | str, space: Space, arch: Arch, network: nn.Module) -> Path:
    """Write a network in the form of the original's specialized ones: net.config, run.config and the weights `init`.

    Args:
        space: the architecture's space.
        network: the plain network, such as `Supernet.extract` returns, with its final statistics.

    Returns:
        The folder, which `specialized` and the original's code can read.

    Raises:
        ArchError: the original's format cannot express this network.
        CheckpointError: a weight is not finite, or the network is not the architecture's.
        FileError: the folder cannot be written.
    """
    state = network.state_dict()
    classes = len(state["head.classifier.bias"]) if "head.classifier.bias" in state else 1
    plan, config = space.lower(arch, classes), net_config(space, arch, classes)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in build(plan).state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        raise CheckpointError("the network does not have this architecture: use the one that Supernet.extract returns for it")
    names = original_names(space.family, plan, state, elastic=False)
    weights = {theirs: state[ours].detach().to("cpu", copy=True).contiguous() for ours, theirs in names.items()}
    if wrong := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise CheckpointError(f"{wrong[0]} is not finite: recalibrate the network first")
    place = make_folder(Path(folder))
    write_json(place / "net.config", config)
    write_json(place / "run.config", {"image_size": arch.resolution})
    save_checkpoint(place / "init", weights)
    return place


def recognise(space: Space, plan: Plan) -> Arch | None:
    """The architecture of the space with this plan, None if there is none.

    Each stage's width and depth are read from the plan; each block's kernel and ratio are the first pair of choices for which
    the space makes the same block. A plan of `plan_from_config` starts a stage at each block without a shortcut, so it is not
    recognized in a space whose stages start with a block that has one (strides of 1 between equal widths).
    """
    stages: dict[int, list[Segment]] = {}
    for segment in plan.segments:
        if segment.name.startswith("stages."):
            stages.setdefault(int(segment.name.split(".")[1]), []).append(segment)
    if sorted(stages) != list(range(len(space.stages))):
        return None
    wanted = {segment.name: segment for segment in plan.segments}
    pairs = {pair for choices in space.stages for pair in product(choices.kernels, choices.expand_ratios)}
    found: dict[str, Block] = {}
    for kernel, ratio in sorted(pairs):
        uniform = []
        for choices, segments in zip(space.stages, stages.values(), strict=True):
            k = kernel if kernel in choices.kernels else choices.kernels[0]
            e = ratio if ratio in choices.expand_ratios else choices.expand_ratios[0]
            uniform.append(Stage(segments[0].out_shape[0], (Block(k, e),) * len(segments)))
        arch = Arch(plan.input_shape[1], tuple(uniform))
        if arch not in space:
            return None
        lowered = {segment.name: segment for segment in space.lower(arch, plan.output_shape[0]).inelastic().segments}
        for s, stage in enumerate(arch.stages):
            for i, block in enumerate(stage.blocks):
                if lowered[f"stages.{s}.{i}"] == wanted.get(f"stages.{s}.{i}"):
                    found.setdefault(f"stages.{s}.{i}", block)
    try:
        blocks = [tuple(found[segment.name] for segment in segments) for segments in stages.values()]
    except KeyError:
        return None
    widths = [segments[0].out_shape[0] for segments in stages.values()]
    arch = Arch(plan.input_shape[1], tuple(map(Stage, widths, blocks)))
    same = space.lower(arch, plan.output_shape[0]).inelastic() == plan
    return arch if same else None
