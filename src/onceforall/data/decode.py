"""From a file or bytes to a small RGB image, whatever was in it: EXIF turns, palettes, CMYK, alpha, 16 bit.

Every failure is a `DataError` of one line that names the image and the reason.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError

__all__ = ["MAX_PIXELS", "decode", "quiet", "shrink", "to_rgb"]

MAX_PIXELS = 89_478_485  # a quarter of a GiB of RGB: Pillow's own limit
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's Python warnings (odd EXIF, large images): what matters becomes a `DataError`.

    Enter it once in the main thread around the decoding threads: Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def decode(data: Path | bytes, name: str, *, at_least: int | None = None) -> Image.Image:
    """The image as RGB, upright, over white where it is transparent; of an animation the first frame.

    Args:
        data: a file or its content.
        name: what to call the image in errors.
        at_least: a short side that is enough; a larger JPEG may be decoded at a half, quarter or eighth of its size.

    Raises:
        DataError: missing, not an image, truncated, corrupt, too large, or of a pixel type without a known range.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{name}: {width}×{height} pixels, at most {MAX_PIXELS:,} are allowed (a decompression bomb?)")
            if at_least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (2 * at_least, 2 * at_least))
            image.load()
            return _upright(to_rgb(image, name), _orientation(image))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more than {2 * MAX_PIXELS:,} pixels (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: {_what_else(data)}") from None
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except PermissionError:
        raise DataError(f"{name}: permission denied") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise DataError(f"{name}: cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from error


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Any Pillow image as 8-bit RGB, over white where it is transparent.

    Raises:
        DataError: a pixel type whose range is not known (floating point, or integers of more than 16 bits).
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name}: pixels of type {image.mode} have no known range: save it with 8 or 16 bits per channel")
        return Image.fromarray((values.astype(np.float32) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def shrink(image: Image.Image, size: int) -> Image.Image:
    """The image with a short side of at most `size` (antialiased) and a long side of at most twice the short one.

    Small images stay as they are: batches enlarge them.
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


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF in a readable image: it stays as it is
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _what_else(data: Path | bytes) -> str:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    return "empty" if size == 0 else "not an image, or of a kind that is not read here (" + ", ".join(_formats()) + ")"
