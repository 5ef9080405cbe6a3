"""Check the arguments that describe a space; shared by all families."""

from collections.abc import Sequence, Sized
from typing import Any

from ..errors import SpaceError
from ..resolutions import Resolution, ascending, height_width, read_resolution


def none_of(values: Sequence[float]) -> bool:
    """Whether a choice is turned off with (). Values that are not sequences are rejected by `choices`."""
    return isinstance(values, Sized) and len(values) == 0


def positive(name: str, value: float) -> None:
    """Raise SpaceError unless the value is a number in (0, 100]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        raise SpaceError(f"{name} is {value!r}: it must be a number above 0 and at most 100")


def input_channels(channels: int) -> dict[str, int]:
    """The argument `channels`, omitted for 3 channels as in files written before other numbers were supported.

    Raises:
        SpaceError: not a whole number from 1 to 1,024.
    """
    if type(channels) is not int or not 1 <= channels <= 1024:
        raise SpaceError(f"channels is {channels!r}: it must be a whole number from 1 to 1024, such as 3 for colors or 1 for gray")
    return {} if channels == 3 else {"channels": channels}


def mobile_arguments(
    *,
    width: float,
    resolutions: Sequence[Resolution],
    depths: Sequence[int],
    kernels: Sequence[int],
    expand_ratios: Sequence[float],
    strides: Sequence[int],
    strided: int,
    channels: int = 3,
) -> dict[str, Any]:
    """Check the arguments of a family of inverted residual blocks; `strided` is the number of strides.

    Raises:
        SpaceError: an argument that does not describe a space.
    """
    positive("width", width)
    return {
        "width": float(width),
        "resolutions": sizes(resolutions, at_least=8),
        "depths": choices("depths", depths, whole=True, at_least=1),
        "kernels": choices("kernels", kernels, whole=True, odd=True, at_least=1),
        "expand_ratios": choices("expand_ratios", expand_ratios, at_least=1.01),
        "strides": choices("strides", strides, whole=True, at_least=1, length=strided, ordered=False),
        **input_channels(channels),
    }


def sizes(values: Sequence[Resolution], *, at_least: int) -> tuple[Resolution, ...]:
    """Resolutions as an ascending tuple; "HEIGHTxWIDTH" if not square.

    Raises:
        SpaceError: see `choices`.
    """
    if isinstance(values, str | bytes | dict) or not isinstance(values, Sequence) or not any(isinstance(v, str) for v in values):
        squares: Any = values
        return tuple(choices("resolutions", squares, whole=True, at_least=at_least))
    whole = {v: choices("resolutions", [v], whole=True, at_least=1)[0] for v in values if not isinstance(v, str)}
    read = tuple(read_resolution(v) if isinstance(v, str) else whole[v] for v in values)
    if len(set(read)) < len(read):
        raise SpaceError(f"resolutions is {read}: a value is repeated, give each only once")
    for value in read:
        if min(height_width(value)) < at_least:
            raise SpaceError(f"resolutions holds {value}: each must have sides from {at_least} to 999999 pixels")
    return ascending(read)


def choices(
    name: str,
    values: Sequence[float],
    *,
    at_least: float,
    whole: bool = False,
    odd: bool = False,
    length: int | None = None,
    ordered: bool = True,
) -> Any:
    """The values as a tuple, ascending if `ordered`; whole numbers become int.

    Raises:
        SpaceError: not a sequence, empty, not `length` values, or a value that is repeated, too small or of the wrong type.
    """
    try:
        if isinstance(values, str | bytes | dict) or any(isinstance(v, str | bytes | bool) for v in values):
            raise TypeError
        result = tuple(int(v) if float(v).is_integer() else float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise SpaceError(f"{name} is {values!r}: it must be a sequence of numbers, such as (3, 5, 7)") from None
    if not result:
        raise SpaceError(f"{name} is {values!r}: it must be a sequence of at least one number")
    if length is not None and len(result) != length:
        raise SpaceError(f"{name} has {len(result)} values, it must have {length}")
    for value in result:
        kind = "an odd number" if odd else "a whole number" if whole else "a number"
        if (whole and isinstance(value, float)) or (odd and value % 2 == 0) or not at_least <= value < 1e6:
            raise SpaceError(f"{name} holds {value}: each must be {kind} from {at_least} to 999999")
    if ordered and len(set(result)) < len(result):
        raise SpaceError(f"{name} is {result}: a value is repeated, give each only once")
    return tuple(sorted(result)) if ordered else result
