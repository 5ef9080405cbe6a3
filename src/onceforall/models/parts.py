"""Shared by all sources of networks: the request, how to make the network, and the origin of its weights."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from ..common.fetch import Tell
from ..common.packages import one_line
from ..errors import FileError, ModelError

FORM = "give timm:NAME, torchvision:NAME, hf:USER/REPO, ofa:NAME or FILE.py:FUNCTION"
RANDOM = "random"  # given instead of a file of weights
OTHERWISE = "get the file elsewhere and give it with --weights FILE"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIBRARY_PIXELS = 224  # of torchvision's networks; timm's name their own
NAMED = 5  # maximum number of names in a message
# cc-by-nc-4.0, fair-noncommercial-research-license, and the licenses of Apple's research, SEER and SWAG (a URL in torchvision)
NOT_COMMERCIAL = re.compile(r"(^|[-_ ])nc([-_ ]|$)|non-?commercial|research|apple-amlr|seer|SWAG", re.IGNORECASE)


@dataclass(frozen=True)
class Weights:
    """Origin of a network's weights.

    Args:
        file: name of the file; None if they came from the library or function.
        sha256: hash of the file, or of a function's weights as safetensors; None if random.
        license: license stated by the library, the repository or the file, if any.
        address: where the file was downloaded from; None if it was local.
    """

    file: str | None = None
    sha256: str | None = None
    license: str | None = None
    address: str | None = None

    @property
    def random(self) -> bool:
        """Whether they are a library's initial weights."""
        return self.sha256 is None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line if the license is known to forbid commercial use."""
        if self.license is None or NOT_COMMERCIAL.search(self.license) is None:
            return ()
        return (
            f"the license of these weights, {self.license}, forbids commercial use, perhaps also of networks trained from them",
        )


@dataclass(frozen=True)
class Brought:
    """A user's own network.

    Args:
        source: the text that names it, without the path of a file.
        model: in eval mode, float32, on the CPU; a `Supernet` if it is one of the Once-for-All authors'.
        weights: origin of the weights.
        unfilled: tensors that kept their initial values, since the file has another number of classes, with both shapes as text.
        mean: channel means to normalize images with.
        std: channel standard deviations to normalize images with.
        pixels: side of the images that it was trained for, if known.
        crop_share: share of an image's short side kept by the center crop, if known.
        interpolation: for resizing images, a name in `onceforall.preprocess.INTERPOLATIONS`.
        notes: lines on anything unusual that was done, and on restrictive licenses.
    """

    source: str
    model: nn.Module
    weights: Weights
    unfilled: Mapping[str, str]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pixels: int | None = None
    crop_share: float | None = None
    interpolation: str = "bilinear"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """The user's request.

    Args:
        text: such as "timm:resnet18".
        weights: a file with a state dict; "random"; None for the named trained ones.
        on_download: called with the progress of a download.
    """

    text: str
    weights: Path | str | None
    on_download: Tell

    @property
    def name(self) -> str:
        """The part after the colon."""
        return self.text.partition(":")[2]

    @property
    def file(self) -> Path | None:
        """The file of weights, if one is given."""
        return None if self.weights is None or self.weights == RANDOM else Path(self.weights)


@dataclass(frozen=True)
class Maker:
    """How to make a network.

    Args:
        source: the text that names it, without the path of a file.
        make: makes it for a number of classes, None for its default.
        takes_classes: whether it can be made for another number of classes.
        weights: origin of the weights that `make` loads.
        has_file: whether `make` already loads the user's file of weights; otherwise it is loaded afterwards.
        pixels: side of the images that it was trained for, if known.
        images: preprocessing for these weights, under timm's names, if the network itself does not specify it.
    """

    source: str
    make: Callable[[int | None], nn.Module]
    takes_classes: bool
    weights: Weights
    has_file: bool = False
    pixels: int | None = LIBRARY_PIXELS
    images: Mapping[str, Any] = field(default_factory=dict)


def make_network(maker: Maker, classes: int | None) -> nn.Module:
    """Make the network for a number of classes.

    Raises:
        ModelError: the library cannot make it, or not with these weights.
    """
    try:
        return maker.make(classes)
    except (ModelError, FileError):
        raise
    except Exception as error:  # libraries raise anything for a wrong name or file
        raise ModelError(f"{maker.source!r} cannot be made: {type(error).__name__}: {one_line(error)}") from error


def unknown(text: str, library: str, name: str, known: Sequence[str]) -> str:
    """Error message for a name unknown to a library, with similar names."""
    near = get_close_matches(name, known, 3, 0.5)
    return f"{text!r}: {library} has no model {name!r}: {f'did you mean {some_of(near)}?' if near else FORM}"


def some_of(names: Sequence[str]) -> str:
    """The first names, and the number of others."""
    listed = ", ".join(names[:NAMED])
    return f"{listed} (and {len(names) - NAMED} more)" if len(names) > NAMED else listed or "there are none"
