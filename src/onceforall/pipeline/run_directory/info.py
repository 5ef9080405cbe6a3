"""The content of run.json."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.advice import ofa
from ...data import CACHE_GB, PREPROCESSING, Read
from ...data.reading import AS_IT_IS, Reading, require_cache
from ...preprocess import LARGE
from ...scores import METRICS

WNID = re.compile(r"n\d{8}")  # of ImageNet's classes


@dataclass(frozen=True)
class DataInfo:
    """How the data were opened, to open them the same way again.

    Attributes:
        cache: how training images are kept, see `onceforall.data.stores`; for "auto", the decision.
        cache_gb: limit for decoded images on disk; images for evaluation have a separate limit of the same size.
        before: earlier places, oldest first.
        channels: channels of the images, see `onceforall.data.Read`; `range`, `long` and `max_pixels` likewise.
        exact: whether `limit` is exact; earlier versions used approximately that many images.
        asked: the user's name of a data set on the Hub, perhaps without a commit; "" for others, and in earlier versions.
        by_suffix: first opened by an earlier version, which recognized fewer files and folders of images.
    """

    source: str
    size: int
    holdout: float
    seed: int
    limit: int | None
    fingerprint: str  # of the images that were found
    cache_gb: float = CACHE_GB
    max_pixels: int | None = None
    before: tuple[str, ...] = ()
    asked: str = ""
    by_suffix: bool = False
    channels: int = 3
    range: tuple[float, float] | None = None
    long: float = 2.0
    reading: Reading = AS_IT_IS
    cache: str = "decoded"
    exact: bool = True

    def __post_init__(self) -> None:
        require_cache(self.cache)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `onceforall.data.open_data`."""
        names = ("size", "holdout", "seed", "limit", "exact", "how", "reading")
        return {"limit_gb": self.cache_gb, "caching": self.cache, **{name: getattr(self, name) for name in names}}

    @property
    def how(self) -> Read:
        """How images are read."""
        return Read(self.max_pixels, self.channels, self.range, self.long)

    @staticmethod
    def older(data: dict[str, Any]) -> dict[str, Any]:
        """Older files lack "exact", or "max_pixels", which was `LARGE`."""
        return {"max_pixels": LARGE, "by_suffix": "max_pixels" not in data, "exact": False, **data}


@dataclass(frozen=True)
class Imported:
    """The source of imported weights: the file's name, its sha256, and the original's name of the network."""

    file: str
    sha256: str
    name: str

    def __str__(self) -> str:
        """The source as text."""
        return f"{self.name} from {self.file} (sha256 {self.sha256})"


@dataclass(frozen=True)
class Origin:
    """The run that a training started from.

    Args:
        source: where its weights come from.
        weights: their hash.
        classifier: whether its classifier was kept.
        unseen: whether it is known not to have been trained on any held-out or test image of this run.
    """

    folder: str
    source: str
    weights: str
    classifier: bool
    unseen: bool = False

    def __str__(self) -> str:
        """The origin as text, without its path."""
        head = "with its classifier" if self.classifier else "with a new classifier"
        seen = "" if self.unseen else "; whether it had seen held-out or test images is not known"
        return f"{Path(self.folder).name} ({self.source}; weights {self.weights[:12]}), {head}{seen}"


@dataclass(frozen=True)
class BroughtInfo:
    """The user's own network, from which the space was made.

    Args:
        source: "timm:NAME", "torchvision:NAME", "hf:USER/REPO", "ofa:NAME" or "FILE.py:FUNCTION".
        weights: name of their file; None if they came from the library or the function.
        sha256: hash of the weights; None if they are random.
        license: license of the weights, if known.
        classifier: whether its classifier was kept.
        address: URL that the file was downloaded from; None if it was given.
    """

    source: str
    weights: str | None
    sha256: str | None
    license: str | None
    classifier: bool
    address: str | None = None

    def __str__(self) -> str:
        """The source as text."""
        if self.sha256 is None:
            return f"{self.source} with random weights"
        given = "its own weights" if self.weights is None else f"weights {self.address or self.weights}"
        license = self.license or "not known"
        head = "with its classifier" if self.classifier else "with a new classifier"
        return (
            f"{self.source}, {given} (sha256 {self.sha256}), {head}; license of the weights: {license}; whether they had seen "
            "held-out or test images is not known"
        )


@dataclass(frozen=True)
class RunInfo:
    """The content of run.json.

    Args:
        classes: names in the order of the logits.
        data: None if weights were imported without images.
        images: split -> number of images.
        augment: augmentation of the training images; None if nothing is trained.
        crop_share: share of an image's short side that the center crop keeps in evaluation.
        preset: the training preset, if any.
        arguments: arguments of the first start, to compare with the ones given to resume.
        imported: source of imported weights; None if they are trained here.
        origin: the run whose weights training started from, if any.
        brought: the user's own network, if the space was made from one.
        mean: mean of each channel, to normalize images.
        std: standard deviation of each channel, to normalize images.
        interpolation: used for resizing in evaluation, a name in `onceforall.preprocess.INTERPOLATIONS`.
        metric: used for validation, predictors and searches, a name in `onceforall.scores.METRICS`.
    """

    space: dict[str, Any]
    classes: tuple[str, ...]
    data: DataInfo | None
    images: dict[str, int]
    augment: dict[str, Any] | None
    crop_share: float
    seed: int
    preset: str | None
    environment: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    imported: Imported | None = None
    origin: Origin | None = None
    brought: BroughtInfo | None = None
    mean: tuple[float, ...] = PREPROCESSING.mean
    std: tuple[float, ...] = PREPROCESSING.std
    interpolation: str = PREPROCESSING.interpolation
    metric: str = "top1"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}, expected one of {', '.join(METRICS)}")
        if self.imported is None and (self.data is None or self.augment is None):
            raise ValueError("data and augment are needed where weights are trained")

    @property
    def task(self) -> str | None:
        """The task, a name in `onceforall.tasks.task.TASKS`; None for one class per image, as with imported weights."""
        return None if self.data is None else self.data.reading.task

    @property
    def start(self) -> str | None:
        """What training started from, as text; None for random weights of one of our spaces, and for imported weights."""
        own = None if self.brought is None or self.imported is not None else str(self.brought)
        return own if self.origin is None else f"{self.origin}" if own is None else f"{self.origin}; before that from {own}"

    @property
    def source(self) -> str | None:
        """The source of imported weights as text; None if the weights were trained here."""
        return None if self.imported is None else str(self.imported if self.brought is None else self.brought)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the source of the weights, unless they were trained here from random ones of one of our spaces."""
        imported = () if self.source is None else (f"The supernet's weights were imported: {self.source}.",)
        started = () if self.start is None else (f"The supernet's training started from {self.start}.",)
        return (*imported, *started, *((self.no_test,) if self.no_test else ()))

    @property
    def no_test(self) -> str | None:
        """Why test accuracies may be biased, if so: the classes are ImageNet's, and the network may have been trained on it."""
        if self.brought is None or self.brought.sha256 is None or not all(WNID.fullmatch(name) for name in self.classes):
            return None
        return (
            f"The classes have ImageNet's names ({self.classes[0]}, …): weights that were trained on ImageNet have seen such "
            "images, so the accuracies here, even on test images, do not show how well new photographs are classified."
        )

    def import_again(self, *more: str) -> str:
        """The command that imports these weights again. `more`: further words."""
        assert self.imported is not None
        if self.brought is None:
            return ofa("import", self.imported.file, "--name", self.imported.name, *more)
        given = self.brought.weights is not None and self.brought.address is None
        weights = ("--weights", str(self.brought.weights)) if given else ()
        return ofa("import", self.brought.source, *weights, *more)
