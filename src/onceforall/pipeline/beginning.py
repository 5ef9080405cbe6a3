"""What a training starts from, as far as it is known before the images are read: its space, recipe and weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import PREPROCESSING
from ..errors import TrainingError
from ..models import FORM, is_source, lasting_source
from ..places import expanded
from ..space import Space
from ..supernet import Supernet
from .info import BroughtInfo, Origin
from .own import OwnNetwork, bring_own, require_logits, started
from .presets import Preset, choose_preset
from .run import Run
from .transfer import RATE_SHARE, open_origin, preset_for, recipe_of, transferred

__all__ = ["Beginning", "beginning", "lasting_start"]

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
        return self.origin is None and (self.own is None or self.own.brought.weights.random)

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

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of the channels, as the weights expect it; `std` likewise."""
        return self.own.brought.mean if self.own else self.origin.info.mean if self.origin else PREPROCESSING.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.own.brought.std if self.own else self.origin.info.std if self.origin else PREPROCESSING.std


def lasting_start(text: str | Path | None) -> str | None:
    """What `--from` was given, right from any working folder."""
    if text is None:
        return None
    return lasting_source(str(text)) if is_source(str(text)) else str(expanded(text).resolve())


def beginning(
    given: Mapping[str, Any], *, digits: bool, out: Path, on_event: Callable[[Event], None] = lambda event: None
) -> Beginning:
    """What a training with these arguments starts from.

    Args:
        given: arguments of `train`.
        digits: the data are the digits.
        out: its run directory.
        on_event: gets notes, and progress of a download.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    start = given["from_run"]
    brought = start is not None and is_source(start)
    if given["weights"] is not None and not brought:
        raise TrainingError(f"--weights FILE is for a network that is brought: {FORM} to --from too")
    origin = None if start is None or brought else open_origin(start, out)
    name = given["preset"] or (recipe_of(origin) if origin else "digits" if digits else "imagenette-60m")
    preset = choose_preset(name, given["scheme"], given["batch_size"], given["rate"])
    if origin is not None:
        return Beginning(name, preset_for(origin, preset, given), origin.space, origin)
    if not brought:
        return Beginning(name, preset, preset.space(given["space"] or {}))
    Run.require_free(out)  # reading a network takes a while
    own = bring_own(
        start,
        weights=given["weights"],
        choices=given["space"],
        resolutions=preset.space({}).resolutions,
        seed=given["seed"],
        on_event=on_event,
    )
    require_logits(own)
    trained = own.brought.weights.file is not None and given["rate"] is None
    preset = replace(
        preset, rate=(RATE_SHARE if trained else 1.0) * preset.rate, recipe=replace(preset.recipe, zero_residual=False)
    )
    return Beginning(name, preset, own.supernet.space, own=own)
