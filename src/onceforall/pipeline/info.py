"""What run.json says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import CACHE_GB
from ..preprocess import LARGE

__all__ = ["DataInfo", "Imported", "Origin", "RunInfo"]


@dataclass(frozen=True)
class DataInfo:
    """How the data were opened, to open them the same way again.

    Attributes:
        before: places that they were in, the first one first.
        by_suffix: an earlier version opened them first, which took fewer files for images, and fewer folders.
    """

    source: str
    size: int
    holdout: float
    seed: int
    limit: int | None
    fingerprint: str
    cache_gb: float = CACHE_GB
    max_pixels: int | None = None
    before: tuple[str, ...] = ()
    by_suffix: bool = False

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DataInfo":
        """Older files have no "max_pixels", and their images at most `LARGE` pixels."""
        older = {"max_pixels": LARGE, "by_suffix": "max_pixels" not in data}
        return cls(**{**older, **data, "before": tuple(data.get("before", ()))})


@dataclass(frozen=True)
class Imported:
    """Where weights come from that were not trained here: the file's name, its sha256, and what the original calls the network."""

    file: str
    sha256: str
    name: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.name} from {self.file} (sha256 {self.sha256})"


@dataclass(frozen=True)
class Origin:
    """What a training started from.

    Args:
        folder: of the run.
        source: of its weights.
        weights: their hash.
        classifier: whether it was taken too.
        unseen: none of the held-out and test images were trained on before; False if that is not known.
    """

    folder: str
    source: str
    weights: str
    classifier: bool
    unseen: bool = False

    def __str__(self) -> str:
        """In words, without the path."""
        head = "with its classifier" if self.classifier else "with a new classifier"
        seen = "" if self.unseen else "; whether it had seen held-out or test images is not known"
        return f"{Path(self.folder).name} ({self.source}; weights {self.weights[:12]}), {head}{seen}"


@dataclass(frozen=True)
class RunInfo:
    """What run.json holds.

    Args:
        space: its JSON.
        classes: names in the order of the logits.
        data: None if weights were imported without images.
        images: split -> number of images.
        augment: of the training images; None if nothing is trained.
        crop_share: what the centre crop keeps of an image's short side in evaluation.
        seed: of everything drawn.
        preset: that was trained with, if any.
        environment: see `environment`.
        arguments: of the first start, to compare with those of a resume.
        imported: None if the weights are trained here.
        origin: the run whose weights the training started from; None if from random ones.
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

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the weights come from, if not from a training that began with random ones."""
        imported = () if self.imported is None else (f"The supernet's weights were imported: {self.imported}.",)
        return imported if self.origin is None else (*imported, f"The supernet's training started from {self.origin}.")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunInfo":
        """From what `asdict` gave, as JSON. Older files have no "imported" or "origin".

        Raises:
            TypeError, KeyError, ValueError: it is not that.
        """
        given, imported, origin = data["data"], data.get("imported"), data.get("origin")
        read = {
            "classes": tuple(data["classes"]),
            "data": None if given is None else DataInfo.from_json(given),
            "imported": None if imported is None else Imported(**imported),
            "origin": None if origin is None else Origin(**origin),
        }
        info = cls(**{**data, **read})
        if info.imported is None and (info.data is None or info.augment is None):
            raise ValueError("no data")
        return info
