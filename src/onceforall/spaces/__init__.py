"""Families of networks. A new family is one file here and one line in `FAMILIES`."""

import inspect
import json
from collections.abc import Callable
from typing import Any

from ..errors import SpaceError
from ..space import Space
from .mobilenet_v3 import mobilenet_v3

__all__ = ["FAMILIES", "from_json", "space"]

FAMILIES: dict[str, Callable[..., Space]] = {
    "mobilenet_v3": mobilenet_v3,
}


def space(family: str, **arguments: Any) -> Space:
    """The search space of a family, e.g. `space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128))`.

    The arguments are those of the function in `FAMILIES`.

    Raises:
        SpaceError: an unknown family or argument, or a value that does not describe a space.
    """
    return _make(family, arguments)


def from_json(text: str) -> Space:
    """Read what `Space.to_json` wrote.

    Raises:
        SpaceError: not JSON, another format, or arguments that do not describe a space.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpaceError(f"not a space: the text is not JSON ({error})") from None
    if not isinstance(data, dict) or set(data) != {"format", "family", "arguments"} or not isinstance(data["arguments"], dict):
        raise SpaceError("not a space: expected an object with exactly format, family and arguments")
    if data["format"] != "onceforall.space/1":
        raise SpaceError(f"unknown space format {data['format']!r}: this version reads 'onceforall.space/1'")
    return _make(data["family"], data["arguments"])


def _make(family: str, arguments: dict[str, Any]) -> Space:
    if not isinstance(family, str) or family not in FAMILIES:
        raise SpaceError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)}")
    known = list(inspect.signature(FAMILIES[family]).parameters)
    for name in arguments:
        if name not in known:
            raise SpaceError(f"{family} has no argument {name!r}: choose from {', '.join(known)}")
    return FAMILIES[family](**arguments)
