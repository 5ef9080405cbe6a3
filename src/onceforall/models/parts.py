"""What the ways to bring a network have in common: how it is asked for, how it is made, and where its weights come from."""

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
RANDOM = "random"  # weights, in place of a file's
OTHERWISE = "get the file elsewhere and give it with --weights FILE"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIBRARY_PIXELS = 224  # of torchvision's networks; timm's tell their own
NAMED = 5  # names in a message
# cc-by-nc-4.0, fair-noncommercial-research-license, Apple's for research, SEER's, and SWAG's, which torchvision gives as an address
NOT_COMMERCIAL = re.compile(r"(^|[-_ ])nc([-_ ]|$)|non-?commercial|research|apple-amlr|seer|SWAG", re.IGNORECASE)


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from.

    Args:
        file: name of the file; None if they are what the library or function gave.
        sha256: of the file; of what a function gave, of the tensors as safetensors writes them; None if random.
        license: as far as the library, the repository or the file says one.
        address: that the file was fetched from; None if it was here.
    """

    file: str | None = None
    sha256: str | None = None
    license: str | None = None
    address: str | None = None

    @property
    def random(self) -> bool:
        """They are a library's initial ones."""
        return self.sha256 is None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line if the licence is known to forbid commercial use."""
        if self.license is None or NOT_COMMERCIAL.search(self.license) is None:
            return ()
        return (f"the licence of these weights, {self.license}, forbids commercial use, perhaps of what is trained from them too",)


@dataclass(frozen=True)
class Brought:
    """A network that someone brought.

    Args:
        source: the text that names it, without the path of a file.
        model: in eval mode, float32, on the CPU; a `Supernet` if it is one of the Once-for-All authors'.
        weights: where they come from.
        unfilled: tensors that the file has for another number of classes, with both shapes in words: they are initial ones.
        mean: of the channels, that the images are normalised with.
        std: of the channels, likewise.
        pixels: side of the images that it was made for, as far as that is known.
        crop_share: what the centre crop keeps of an image's short side, likewise.
        interpolation: of images that are resized, a name in `onceforall.preprocess.INTERPOLATIONS`.
        notes: lines on what was done in another way than usual, and on a licence that forbids much.
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
class Asked:
    """What the user asked for.

    Args:
        text: such as "timm:resnet18".
        weights: a file of a state dict; "random"; None for the trained ones that belong to the name.
        tell: gets progress of a download.
    """

    text: str
    weights: Path | str | None
    tell: Tell

    @property
    def name(self) -> str:
        """What stands behind the colon."""
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
        make: for a number of classes, None for its own.
        takes_classes: it can be made for another number of classes than its own.
        weights: those that `make` gives it.
        has_file: the file of weights that the user gave is among these; else it is filled in afterwards.
        pixels: side of the images that it was made for, as far as that is known.
        images: how images are prepared for these weights, by the names that timm has for it, where the network does not say it.
    """

    source: str
    make: Callable[[int | None], nn.Module]
    takes_classes: bool
    weights: Weights
    has_file: bool = False
    pixels: int | None = LIBRARY_PIXELS
    images: Mapping[str, Any] = field(default_factory=dict)


def made(found: Maker, classes: int | None) -> nn.Module:
    """The network, for a number of classes.

    Raises:
        ModelError: the library cannot make it, or with these weights not.
    """
    try:
        return found.make(classes)
    except (ModelError, FileError):
        raise
    except Exception as error:  # of a library, whatever it finds wrong with a name or a file
        raise ModelError(f"{found.source!r} cannot be made: {type(error).__name__}: {one_line(error)}") from error


def unknown(text: str, library: str, name: str, known: Sequence[str]) -> str:
    """A message for a name that a library does not know, with the nearest ones."""
    near = get_close_matches(name, known, 3, 0.5)
    return f"{text!r}: {library} has no model {name!r}: {f'did you mean {some_of(near)}?' if near else FORM}"


def some_of(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    listed = ", ".join(names[:NAMED])
    return f"{listed} (and {len(names) - NAMED} more)" if len(names) > NAMED else listed or "there are none"
