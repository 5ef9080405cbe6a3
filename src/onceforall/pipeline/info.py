"""What run.json says."""

from dataclasses import dataclass, field
from typing import Any

from ..data import CACHE_GB

__all__ = ["DataInfo", "Imported", "RunInfo"]


@dataclass(frozen=True)
class DataInfo:
    """How the data were opened, to open them the same way again."""

    source: str
    size: int
    holdout: float
    seed: int
    limit: int | None
    fingerprint: str
    cache_gb: float = CACHE_GB


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

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunInfo":
        """From what `asdict` gave, as JSON. Files from before there were imports have no "imported".

        Raises:
            TypeError, KeyError, ValueError: it is not that.
        """
        given, imported = data["data"], data.get("imported")
        read = {
            "classes": tuple(data["classes"]),
            "data": None if given is None else DataInfo(**given),
            "imported": None if imported is None else Imported(**imported),
        }
        info = cls(**{**data, **read})
        if info.imported is None and (info.data is None or info.augment is None):
            raise ValueError("no data")
        return info
