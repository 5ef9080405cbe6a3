"""Image resolutions: the side of a square in pixels, or "HEIGHTxWIDTH" for any other rectangle.

Squares are plain numbers, so files written before rectangles were supported remain valid.
"""

import re
from collections.abc import Iterable
from math import sqrt

from .errors import SpaceError

Resolution = int | str
MOST = 999_999
RECTANGLE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


def height_width(resolution: Resolution) -> tuple[int, int]:
    """Height and width in pixels."""
    if not isinstance(resolution, str):
        return resolution, resolution
    height, _, width = resolution.partition("x")
    return int(height), int(width)


def of_sides(height: int, width: int) -> Resolution:
    """The inverse of `height_width`."""
    return height if height == width else f"{height}x{width}"


def side_of(resolution: Resolution) -> float:
    """Side of a square with the same number of pixels, used to sort and compare resolutions."""
    height, width = height_width(resolution)
    return float(height) if height == width else sqrt(height * width)


def ascending(resolutions: Iterable[Resolution]) -> tuple[Resolution, ...]:
    """Sort from the fewest pixels to the most; ties by height."""
    return tuple(sorted(resolutions, key=lambda resolution: (side_of(resolution), height_width(resolution))))


def longest_side(resolutions: Iterable[Resolution]) -> int:
    """The longest side of all resolutions, in pixels."""
    return max(max(height_width(resolution)) for resolution in resolutions)


def aspect_of(resolutions: Iterable[Resolution]) -> float:
    """Geometric mean of width over height; 1 for squares."""
    sizes = [height_width(resolution) for resolution in resolutions]
    ratio = 1.0
    for height, width in sizes:
        ratio *= (width / height) ** (1 / len(sizes))
    return ratio if any(height != width for height, width in sizes) else 1.0


def by_sides(resolution: Resolution) -> str:
    """Readable text: "224×224" or "160×224"."""
    return "{}×{}".format(*height_width(resolution))


def in_pixels(resolution: Resolution, unit: str = "px") -> str:
    """Readable text: "224 px", or "160×224 px" if not square."""
    return f"{resolution if isinstance(resolution, int) else by_sides(resolution)} {unit}".strip()


def read_resolution(value: object) -> Resolution:
    """Read a resolution given by a user or a file: 224, "224", "160x224"; "224x224" becomes 224.

    Raises:
        SpaceError: not a resolution.
    """
    text = str(value).strip().replace("×", "x")
    found = RECTANGLE.fullmatch(text if "x" in text else f"{text}x{text}")
    if isinstance(value, bool) or not isinstance(value, int | str) or found is None:
        raise SpaceError(f"resolution {value!r}: give a number of pixels such as 224, or HEIGHTxWIDTH such as 160x224")
    return of_sides(int(found[1]), int(found[2]))
