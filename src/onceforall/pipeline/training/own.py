"""The user's own networks, for the command line: read them, make them elastic, and record where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.progress import QUIET, Progress
from ...data import PREPROCESSING, Preprocessing
from ...data.preparation import channel_values, for_channels
from ...errors import ModelError, SpaceError
from ...graph import Value
from ...models import Brought, bring
from ...options.training import ImportOptions, TrainOptions
from ...reader.exporting import stored_sizes
from ...resolutions import Resolution
from ...spaces import space as make_space
from ...spaces.checks import sizes
from ...spaces.graph import classifier_weights, graph_of
from ...supernets.conversion import elastic
from ...supernets.supernet import Supernet
from ..run_directory.info import BroughtInfo
from .transfer import transferred

PIXELS = 224  # for networks that do not state their image size
CHOICES = ("resolutions", "widths", "heads", "depths", "kernels", "stage_widths")  # keys of --space


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's own, and the supernet of which it is the largest sub-network.

    Args:
        supernet: elastic, with the network's weights.
    """

    brought: Brought
    supernet: Supernet

    def info(self, *, classifier: bool) -> BroughtInfo:
        """The network's record for run.json. `classifier`: whether its classifier is kept."""
        weights = self.brought.weights
        return BroughtInfo(self.brought.source, weights.file, weights.sha256, weights.license, classifier, weights.address)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing for evaluation that the weights expect, for the number of channels they were trained with."""
        own = self.brought
        return Preprocessing(own.mean, own.std, own.crop_share or PREPROCESSING.crop_share, own.interpolation)


def with_statistics(known: Preprocessing, options: TrainOptions | ImportOptions, channels: int) -> Preprocessing:
    """Preprocessing for a number of channels, with the mean and standard deviation of the options, if they are given."""
    mean, std = (
        channel_values(name, given, channels) or for_channels(value, channels)
        for name, given, value in (("mean", options.mean, known.mean), ("std", options.std, known.std))
    )
    return replace(known, mean=mean, std=std)


def bring_own(
    source: str,
    *,
    weights: Path | str | None = None,
    choices: Mapping[str, Any] | None = None,
    resolutions: Sequence[Resolution] | None = None,
    channels: int | None = None,
    seed: int = 0,
    progress: Progress = QUIET,
) -> OwnNetwork:
    """Read a network and make it elastic.

    Args:
        weights: a file with its state dict, "random", or None for its own weights.
        choices: choices of the space: resolutions, widths, heads, depths, kernels and stage_widths, see `onceforall.elastic`.
        resolutions: used if `choices` has none and the network takes them unchanged; else, or if None, the resolution it was made
            for.
        channels: channels of the images; None for the number that the network takes.
    """
    given = dict(choices or {})
    if unknown := set(given) - set(CHOICES):
        raise SpaceError(f"the space of your own network has no {min(unknown)!r}: choose from {', '.join(CHOICES)}")
    asked = given.pop("resolutions", None)
    if asked is not None:
        asked = sizes(asked, at_least=1)
    brought = bring(source, weights, channels=channels, seed=seed, progress=progress)
    for text in brought.notes:
        progress.note(text)
    if isinstance(brought.model, Supernet):
        return OwnNetwork(brought, _at(brought.source, brought.model, asked or resolutions, given))
    stated = stored_sizes(brought.model)  # by its modules; the size of the weights in default_cfg may be another
    own_pixels = stated[0] if len(stated) == 1 else brought.pixels
    own_size = (own_pixels or PIXELS,)
    try:
        supernet = elastic(brought.model, asked or resolutions or own_size, channels=channels, **given)
        if not asked and any(supernet.space.interpolated.get(pixels) for pixels in supernet.space.resolutions):
            raise ModelError(f"{brought.source} has position embeddings of another size: set it in default_cfg")
    except ModelError as error:
        if asked or not resolutions or own_pixels is None or tuple(resolutions) == own_size:
            more = "" if asked else "; or give --resolutions that the network takes"
            raise ModelError(f"{error}{more}") from error
        supernet = elastic(brought.model, own_size, channels=channels, **given)
        what = f"{brought.source} does not take images of {', '.join(map(str, resolutions))} pixels unchanged"
        progress.note(f"{what}: the space has only the {own_pixels} pixels that it was made for")
    if supernet.space.count() == 1:
        progress.note(f"nothing in {brought.source} is elastic (ofa elastic shows why): give several --resolutions")
    own = OwnNetwork(brought, supernet.eval())
    require_classifier_only(own)
    return own


def _at(source: str, supernet: Supernet, resolutions: Sequence[Resolution] | None, others: Mapping[str, Any]) -> Supernet:
    """A supernet of a published space, with the given resolutions."""
    if others:
        raise SpaceError(f"{source} has its own space, in which only resolutions can be chosen: leave {min(others)} out")
    if resolutions is None:
        return supernet
    own = supernet.space
    with torch.device("meta"):
        chosen = Supernet(make_space(own.family, **{**own.arguments, "resolutions": tuple(resolutions)}), supernet.num_classes)
    chosen.load_state_dict(supernet.state_dict(), assign=True)
    return chosen.eval()


def require_logits(own: OwnNetwork) -> None:
    """Check that the network returns only logits, one for each class.

    Raises:
        ModelError: it returns something else, and needs a training loop of your own.
    """
    if own.supernet.space.family != "graph":  # one of the Once-for-All authors'
        return
    graph = graph_of(own.supernet.space)
    if graph.classes < 0 or not isinstance(graph.output, Value):
        what = "several results" if not isinstance(graph.output, Value) else "no logits of a linear layer or convolution"
        raise ModelError(
            f"{own.brought.source} returns {what}, but ofa needs a classifier, which returns logits (n, classes): train any "
            "other network with onceforall.elastic in your own loop"
        )


def started(own: OwnNetwork, fresh: Supernet) -> tuple[dict[str, Tensor], bool]:
    """The initial weights, and whether they include the network's classifier rather than a new one for other classes.

    Args:
        fresh: a supernet of the same space with random weights, for the data's number of classes.
    """
    classifier = not own.brought.unfilled and fresh.num_classes == own.supernet.num_classes
    return transferred(own.supernet, fresh, classifier=classifier), classifier


def require_classifier_only(own: OwnNetwork) -> None:
    """Check that only the classifier's weights have another shape.

    Raises:
        ModelError: other weights have another shape.
    """
    wrong = [text for name, text in own.brought.unfilled.items() if name not in classifier_weights(own.supernet.space)]
    if wrong:
        raise ModelError(
            f"not the weights of {own.brought.source}: {'; '.join(wrong[:3])}: only those of the classifier may have another shape"
        )
