"""What training starts from, as far as known before the images are read: space, recipe and weights."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.places import expanded
from ...common.progress import QUIET, Progress
from ...common.readable import amount, plural
from ...data import PREPROCESSING, Preprocessing
from ...data.sources import require_place
from ...errors import OnceForAllError, SpaceError, TrainingError
from ...models import FORM, is_source, lasting_source
from ...options.presets import RANDOM, Preset
from ...options.training import TrainOptions
from ...space import Space
from ...supernets.supernet import Supernet
from ...train import Recipe
from ..run_directory.info import BroughtInfo, Origin
from ..run_directory.run import Run
from .own import CHOICES, OwnNetwork, bring_own, require_logits, started
from .transfer import DEFAULT, RATE_SHARE, open_origin, preset_for, transferred

NETWORK = "timm:tf_efficientnet_lite0.in1k"  # Apache-2.0, 4.7 M parameters: docs/results/pretrained.md
ADJUSTMENT = 0.5  # for balanced accuracy: docs/results/uneven.md
SCRATCH = "scratch"  # value of --from for random weights


@dataclass(frozen=True)
class Beginning:
    """What training starts from.

    Args:
        preset: the recipe, adapted to the start.
        origin: the run whose weights it starts from, if any.
        own: the user's own network, if any.
    """

    name: str
    preset: Preset
    space: Space
    origin: Run | None = None
    own: OwnNetwork | None = None

    @property
    def random(self) -> bool:
        """Whether training starts from random weights."""
        return self.origin is None and self.unseen

    @property
    def unseen(self) -> bool:
        """Whether weights that do not come from a run have seen no images."""
        return self.own is None or self.own.brought.weights.random

    def for_metric(self, metric: str, given: Mapping[str, Any], note: Callable[[str], None]) -> "Beginning":
        """Adapt the recipe to the metric (docs/results/uneven.md); values of the recipe that were `given` are kept."""
        if metric != "balanced" or {"logit_adjustment", "balance"} & set(given):
            return self
        note(
            "networks are trained for balanced accuracy: they predict rare classes more often than these occur; to turn this off: "
            "--recipe logit_adjustment=0"
        )
        return replace(self, preset=replace(self.preset, recipe=replace(self.preset.recipe, logit_adjustment=ADJUSTMENT)))

    def weights(self, fresh: Supernet, origin: Origin | None) -> tuple[dict[str, Tensor] | None, BroughtInfo | None]:
        """The initial weights, None for those of `fresh`, and the record of the user's own network.

        Args:
            fresh: a supernet with random weights for the classes of the data.
            origin: the record of `self.origin`.
        """
        if self.own is not None:
            weights, classifier = started(self.own, fresh)
            return weights, self.own.info(classifier=classifier)
        if self.origin is not None and origin is not None:
            return transferred(self.origin.supernet(), fresh, classifier=origin.classifier), self.origin.info.brought
        return None, None

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the weights expect."""
        return self.own.preprocessing if self.own else self.origin.preprocessing if self.origin else PREPROCESSING


def lasting_start(text: str | Path | None) -> str | None:
    """The value of `--from`, valid from any working folder."""
    if text is None:
        return None
    given = str(text)
    if given == SCRATCH:
        return given
    return lasting_source(given) if is_source(given) else str(expanded(given).resolve())


def beginning(options: TrainOptions, *, progress: Progress = QUIET) -> Beginning:
    """What training with these arguments starts from.

    Args:
        options: options of `train`, from `lasting_options`.
    """
    start = options.from_run if options.from_run != SCRATCH else None
    brought = start is not None and is_source(str(start))
    if options.weights is not None and not brought:
        raise TrainingError(f"--weights FILE needs the network that it belongs to: {FORM} as --from, too")
    origin = None if start is None or brought else open_origin(str(start), options.out)
    digits = options.data == "digits"
    known = (origin.info.preset or DEFAULT) if origin else "digits" if digits else "pretrained" if brought else RANDOM
    name, preset = known if options.preset is None else options.preset, options.chosen(known)
    if origin is not None:
        if options.channels not in (None, origin.space.channels):
            raise TrainingError(
                f"--channels {options.channels}: the networks of --from {origin.folder} take images of "
                f"{plural(origin.space.channels, 'channel')}: leave it out, or start from another network"
            )
        return Beginning(name, preset_for(origin, preset, options), origin.space, origin)
    if start is None or not brought:
        channels = {} if options.channels is None else {"channels": options.channels}
        return Beginning(name, preset, preset.space({**(options.space or {}), **channels}))
    Run.require_free(options.out)  # reading a network takes a while, and fetching it longer
    require_place(options.data, options.reading)
    try:
        own = bring_own(
            str(start), weights=options.weights, choices=options.space, resolutions=preset.space({}).resolutions,
            channels=options.channels, seed=options.seed, progress=progress,
        )  # fmt: skip
    except OnceForAllError as error:
        if start == NETWORK:  # perhaps only the default
            raise TrainingError(f"{error}; to train from random weights: --from {SCRATCH}") from None
        raise
    require_logits(own)
    if own.brought.weights.random and options.preset is None:
        name, preset = RANDOM, options.chosen(RANDOM)
    elif not own.brought.weights.random and name != "pretrained" and options.rate is None:
        preset = replace(preset, rate=RATE_SHARE * preset.rate)
    share = own.brought.crop_share if options.preset is None and not own.brought.weights.random else None
    preset = replace(
        preset, recipe=replace(preset.recipe, zero_residual=False), crop_share=preset.crop_share if share is None else share
    )
    return Beginning(name, preset, own.supernet.space, own=own)


def default_start(options: TrainOptions, *, progress: Progress) -> str | None:
    """The default start for photographs; None for random weights.

    An option of one of our own spaces ("width=0.5"), for which there are no trained weights, leads to random ones, with a note.
    """
    if options.data == "digits" or options.preset is not None or options.from_run is not None:
        return None
    if ours := sorted(set(options.space or {}) - set(CHOICES)):
        what = f"--space {ours[0]} belongs to a built-in family, which has no trained weights here"
        progress.note(f"{what}: training starts from random weights; without it, photographs start from {NETWORK}")
        return None
    return NETWORK


MOST_BLOCKS = 1000  # per network; the largest known here have 30
TOO_FAR = 2.0  # multiple of this machine's memory that is rejected: the estimate may be off, but not by that much
CLOSE = 0.8  # share of the memory that is worth a note
UNUSUAL = 10.0  # multiple of the preset's multiply-accumulates, for which its times and rates were chosen
CLASSES = 10  # the real number is not known before the images are read, and hardly matters


def check_size(space: Space, recipe: Recipe, usual: Space, preset: str, device: torch.device) -> str | None:
    """A line about a space that is far larger than its preset's or may not fit in memory; None for others.

    Args:
        recipe: the training recipe.
        usual: the preset's own space.
        device: the training device.

    Raises:
        SpaceError: the space's networks, or its largest one, cannot be trained here.
    """
    blocks = sum(stage.depths[-1] for stage in space.stages)
    if blocks > MOST_BLOCKS:
        raise SpaceError(f"the space has networks of up to {blocks:,} blocks, {MOST_BLOCKS:,} are the most: give smaller depths")
    plan = space.lower(space.largest(), CLASSES)
    needed, there = training_bytes(space, recipe), memory_here(device)
    what = f"its largest network has {amount(plan.params)} parameters and {amount(plan.macs)} MACs"
    takes = f"training takes about {_gigabytes(needed)} of memory with {plural(recipe.batch_size, 'image')} a step"
    less = "give a smaller --space (width, resolutions, depths, kernels) or --batch-size"
    if needed > TOO_FAR * there:
        raise SpaceError(f"this space is too large for this machine: {what}, and {takes}; it has {_gigabytes(there)}: {less}")
    times = plan.macs / usual.lower(usual.largest(), CLASSES).macs
    if needed > CLOSE * there:
        return f"this space may be too large for this machine: {what}, and {takes}; it has {_gigabytes(there)}: {less}"
    if times > UNUSUAL:
        larger = f"this space is {times:,.0f} times as large as the space of preset {preset}, and steps are as much slower"
        return f"{larger}: {what}; {takes}"
    return None


def training_bytes(space: Space, recipe: Recipe) -> float:
    """Rough estimate of weights, gradients, optimizer state, and the activations that the largest network keeps for a batch."""
    plan = space.lower(space.largest(), CLASSES)
    copies = 2 + (2 if recipe.optimizer == "adamw" else 1) + bool(recipe.ema) + 1  # plus the largest network as a teacher
    kept = prod(plan.input_shape) + sum(prod(op.shape) for op in plan.ops)
    return 4.0 * (copies * plan.params + recipe.batch_size * kept)


def memory_here(device: torch.device) -> float:
    """Bytes of the device's memory; for the CPU, this machine's memory or the container's limit."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows
        return float("inf")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                whole = min(whole, float(file.read()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return whole


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
