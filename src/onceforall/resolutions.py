"""Resolutions of images: the side of a square in pixels, or "HEIGHTxWIDTH" of any other rectangle.

Squares are plain numbers, so that what was written before there were others stays as it is.
"""

import re
from collections.abc import Iterable
from math import sqrt

from .errors import SpaceError

Resolution = int | str
MOST = 999_999
RECTANGLE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


def height_width(resolution: Resolution) -> tuple[int, int]:
    """In pixels."""
    if not isinstance(resolution, str):
        return resolution, resolution
    height, _, width = resolution.partition("x")
    return int(height), int(width)


def of_sides(height: int, width: int) -> Resolution:
    """The opposite of `height_width`."""
    return height if height == width else f"{height}x{width}"


def side_of(resolution: Resolution) -> float:
    """The side of a square of as many pixels, by which resolutions are ordered and compared."""
    height, width = height_width(resolution)
    return float(height) if height == width else sqrt(height * width)


def ascending(resolutions: Iterable[Resolution]) -> tuple[Resolution, ...]:
    """From the fewest pixels to the most; of as many, the lowest image first."""
    return tuple(sorted(resolutions, key=lambda resolution: (side_of(resolution), height_width(resolution))))


def longest_side(resolutions: Iterable[Resolution]) -> int:
    """The longest of all sides, in pixels."""
    return max(max(height_width(resolution)) for resolution in resolutions)


def aspect_of(resolutions: Iterable[Resolution]) -> float:
    """Width over height, the geometric mean; 1 of squares."""
    sizes = [height_width(resolution) for resolution in resolutions]
    ratio = 1.0
    for height, width in sizes:
        ratio *= (width / height) ** (1 / len(sizes))
    return ratio if any(height != width for height, width in sizes) else 1.0


def by_sides(resolution: Resolution) -> str:
    """For people: "224×224" or "160×224"."""
    return "{}×{}".format(*height_width(resolution))


def in_pixels(resolution: Resolution, unit: str = "px") -> str:
    """For people: "224 px", or "160×224 px" of what is no square."""
    return f"{resolution if isinstance(resolution, int) else by_sides(resolution)} {unit}".strip()


def read_resolution(value: object) -> Resolution:
    """What a person or a file means: 224, "224", "160x224"; "224x224" is 224.

    Raises:
        SpaceError: none.
    """
    text = str(value).strip().replace("×", "x")
    found = RECTANGLE.fullmatch(text if "x" in text else f"{text}x{text}")
    if isinstance(value, bool) or not isinstance(value, int | str) or found is None:
        raise SpaceError(f"resolution {value!r}: a number of pixels such as 224, or HEIGHTxWIDTH such as 160x224, is needed")
    return of_sides(int(found[1]), int(found[2]))
