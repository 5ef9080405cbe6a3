"""What a training starts from, as far as it is known before the images are read: its space, recipe and weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...common.places import expanded
from ...common.readable import plural
from ...data import PREPROCESSING
from ...data.preparation import channel_values, for_channels
from ...errors import OnceForAllError, TrainingError
from ...models import FORM, is_source, lasting_source
from ...options.presets import RANDOM, Preset
from ...options.training import TrainOptions
from ...space import Space
from ...supernets.supernet import Supernet
from ..run_directory.info import BroughtInfo, Origin
from ..run_directory.run import Run
from .own import CHOICES, OwnNetwork, bring_own, require_logits, started
from .transfer import RATE_SHARE, open_origin, preset_for, recipe_of, transferred

NETWORK = "timm:tf_efficientnet_lite0.in1k"  # Apache-2.0, 4.7 M parameters: docs/results/pretrained.md
SCRATCH = "scratch"  # what --from is given for random weights
Event = dict[str, Any]


@dataclass(frozen=True)
class Beginning:
    """What a training starts from.

    Args:
        name: of the preset.
        preset: the recipe, fitted to what is started from.
        space: that is trained.
        origin: the run whose weights it starts from, if any.
        own: the network that someone brought, if any.
    """

    name: str
    preset: Preset
    space: Space
    origin: Run | None = None
    own: OwnNetwork | None = None

    @property
    def random(self) -> bool:
        """Its weights are initial ones."""
        return self.origin is None and self.unseen

    @property
    def unseen(self) -> bool:
        """Weights that are of no run have seen no images."""
        return self.own is None or self.own.brought.weights.random

    def weights(self, fresh: Supernet, origin: Origin | None) -> tuple[dict[str, Tensor] | None, BroughtInfo | None]:
        """The weights to start from, None for fresh ones, and what to write down about a network that was brought.

        Args:
            fresh: a supernet with initial weights for the classes of the data.
            origin: what is written down about `self.origin`.
        """
        if self.own is not None:
            weights, classifier = started(self.own, fresh)
            return weights, self.own.info(classifier=classifier)
        if self.origin is not None and origin is not None:
            return transferred(self.origin.supernet(), fresh, classifier=origin.classifier), self.origin.info.brought
        return None, None

    def mean(self, given: Sequence[float] | None) -> tuple[float, ...]:
        """Of the channels: what is given, else as the weights expect it; `std` likewise."""
        own, origin = self.own, self.origin
        known = own.brought.mean if own else origin.info.mean if origin else PREPROCESSING.mean
        return channel_values("mean", given, self.space.channels) or for_channels(known, self.space.channels)

    def std(self, given: Sequence[float] | None) -> tuple[float, ...]:
        own, origin = self.own, self.origin
        known = own.brought.std if own else origin.info.std if origin else PREPROCESSING.std
        return channel_values("std", given, self.space.channels) or for_channels(known, self.space.channels)

    @property
    def interpolation(self) -> str:
        """Of images that are resized for evaluation, likewise."""
        own, origin = self.own, self.origin
        return own.brought.interpolation if own else origin.info.interpolation if origin else PREPROCESSING.interpolation


def lasting_start(text: str | Path | None) -> str | None:
    """What `--from` was given, right from any working folder."""
    if text is None:
        return None
    given = str(text)
    if given == SCRATCH:
        return given
    return lasting_source(given) if is_source(given) else str(expanded(given).resolve())


def beginning(options: TrainOptions, *, on_event: Callable[[Event], None] = lambda event: None) -> Beginning:
    """What a training with these arguments starts from.

    Args:
        options: of `train`, as `lasting` makes them.
        on_event: gets notes, and progress of a download.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    start = options.from_run if options.from_run != SCRATCH else None
    brought = start is not None and is_source(str(start))
    if options.weights is not None and not brought:
        raise TrainingError(f"--weights FILE is for a network that is brought: {FORM} to --from too")
    origin = None if start is None or brought else open_origin(str(start), options.out)
    digits = options.data == "digits"
    known = recipe_of(origin) if origin else "digits" if digits else "pretrained" if brought else RANDOM
    name, preset = options.preset or known, options.chosen(known)
    if origin is not None:
        if options.channels not in (None, origin.space.channels):
            raise TrainingError(
                f"--from {origin.folder} brings networks for images of {plural(origin.space.channels, 'channel')}, and --channels "
                f"{options.channels} asks for others: leave it out, or start from another network"
            )
        return Beginning(name, preset_for(origin, preset, options), origin.space, origin)
    if start is None or not brought:
        channels = {} if options.channels is None else {"channels": options.channels}
        return Beginning(name, preset, preset.space({**(options.space or {}), **channels}))
    Run.require_free(options.out)  # reading a network takes a while
    try:
        own = bring_own(
            str(start),
            weights=options.weights,
            choices=options.space,
            resolutions=preset.space({}).resolutions,
            channels=options.channels,
            seed=options.seed,
            on_event=on_event,
        )
    except OnceForAllError as error:
        if start == NETWORK:  # perhaps nobody asked for it
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


def default_start(options: TrainOptions, *, on_event: Callable[[Event], None]) -> str | None:
    """What photographs are started from where nothing else is said; None: from random weights.

    A space that is no brought network's ("width=0.5") is one of ours, for which there are no weights; a note says so.
    """
    if options.data == "digits" or options.preset is not None or options.from_run is not None:
        return None
    if ours := sorted(set(options.space or {}) - set(CHOICES)):
        text = f"--space {ours[0]} is of a family of ours: random weights; without it, photographs start from {NETWORK}"
        on_event({"event": "note", "text": text})
        return None
    return NETWORK
