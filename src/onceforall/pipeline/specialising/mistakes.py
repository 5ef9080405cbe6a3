"""Photographs that a network misclassifies, the most confident mistakes first."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data import Images

MOST, EACH = 48, 4  # mistakes to keep in all, and per pair of classes
SIDE = 96  # pixels of a thumbnail's long side


@dataclass(frozen=True)
class Mistake:
    """A misclassified image.

    Args:
        image: its name in the data.
        label: number of the true class.
        said: number of the predicted class.
        confidence: the network's confidence in its prediction, from 0 to 1.
        thumbnail: a small JPEG in base64, independent of the original.
        place: index among all classified images; None in older files.
    """

    image: str
    label: int
    said: int
    confidence: float
    thumbnail: str
    place: int | None = None


def worst_mistakes(images: Images, probabilities: NDArray[np.float64]) -> list[Mistake]:
    """The most confident mistakes of a network, at most `EACH` per pair of true and predicted class.

    Args:
        images: the classified images.
        probabilities: (n, classes), in the order of the images.

    Raises:
        DataError: an original cannot be read any more.
    """
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    chosen = surest_mistakes(images.labels, predicted, sure)
    small = [base64.b64encode(picture).decode("ascii") for picture in thumbnails_of(images, chosen)]
    return [
        Mistake(images.name(i), int(images.labels[i]), int(predicted[i]), float(sure[i]), thumbnail, i)
        for i, thumbnail in zip(chosen, small, strict=True)
    ]


def as_bits(flags: NDArray[np.bool_]) -> str:
    """Flags of images, (n,), as hexadecimal digits."""
    return np.packbits(flags).tobytes().hex()


def from_bits(text: str, images: int) -> NDArray[np.bool_]:
    """The flags that `as_bits` encoded, (images,); all false if the text does not fit, because a file was edited."""
    digits = text if len(text) == 2 * -(-images // 8) and all(letter in "0123456789abcdef" for letter in text) else "00" * images
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[:images].astype(bool)


def surest_mistakes(labels: NDArray[np.int64], predicted: NDArray[np.int64], sure: NDArray[np.floating]) -> list[int]:
    """Indices of the most confident mistakes, most confident first; see `worst_mistakes`. All arguments have shape (n,)."""
    wrong = np.flatnonzero(predicted != labels)
    chosen, kept = list[int](), Counter[tuple[int, int]]()
    for i in wrong[np.argsort(-sure[wrong], kind="stable")].tolist():
        pair = int(labels[i]), int(predicted[i])
        if len(chosen) < MOST and kept[pair] < EACH:
            chosen.append(i)
            kept[pair] += 1
    return chosen


def thumbnails_of(images: Images, chosen: Sequence[int]) -> list[bytes]:
    """Small JPEGs of these images.

    Raises:
        DataError: an original cannot be read any more.
    """
    positions = images.positions[list(chosen)]
    ascending = np.unique(positions)
    made = {
        position: _encoded(load(SIDE, images.part.how))
        for position, load in zip(ascending.tolist(), images.part.read(ascending), strict=True)
    }
    return [made[position] for position in positions.tolist()]


def _encoded(image: Image.Image) -> bytes:
    image = image if image.mode == "L" else image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
