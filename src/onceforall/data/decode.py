"""Originals as small RGB images, by `onceforall.preprocess`; every failure is a `DataError` of one line that names the image."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ..errors import DataError
from ..preprocess import load, to_rgb

__all__ = ["Original", "decode", "quiet", "shrink"]

Original = Path | bytes | Callable[[], Image.Image]  # a file, its content, or what gives an image that is decoded already


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's Python warnings (odd EXIF, large images): what matters becomes a `DataError`.

    Enter it once in the main thread around the decoding threads: Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def decode(original: Original, name: str, *, at_least: int | None = None, max_pixels: int | None = None) -> Image.Image:
    """The image as RGB; see `onceforall.preprocess.load`, also for `at_least` and `max_pixels`.

    Args:
        original: what is read.
        name: what to call the image in errors.

    Raises:
        DataError: missing, not an image, truncated, corrupt, too large, or of a pixel type without a known range.
    """
    try:
        if callable(original):
            return to_rgb(original())
        return load(original, at_least=at_least, max_pixels=max_pixels)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error.__cause__


def shrink(image: Image.Image, size: int) -> Image.Image:
    """The image with a short side of at most `size` (antialiased) and a long side of at most twice the short one.

    For training, which crops and resizes what is left; evaluation takes the originals. Small images stay as they are.
    """
    width, height = image.size
    short = min(width, height)
    across, down = min(width, 2 * short), min(height, 2 * short)
    left, top = (width - across) // 2, (height - down) // 2
    box = (left, top, left + across, top + down)
    if short <= size:
        return image if (across, down) == image.size else image.crop(box)
    target = (max(size, round(across * size / short)), max(size, round(down * size / short)))
    return image.resize(target, Image.Resampling.BILINEAR, box=box)
