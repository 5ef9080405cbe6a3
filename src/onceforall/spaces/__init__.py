"""Families of networks. A new family takes one file here and one line in `FAMILIES`."""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from ..errors import SpaceError
from ..space import Choices, Space
from .graph import graph_space
from .mobilenet_v3 import mobilenet_v3
from .proxyless import proxyless
from .resnet50d import resnet50d

__all__ = ["FAMILIES", "from_json", "graph_space", "space"]

FAMILIES: dict[str, Callable[..., Space]] = {"mobilenet_v3": mobilenet_v3, "proxyless": proxyless, "resnet50d": resnet50d}


def space(family: str, **arguments: Any) -> Space:
    """Create the search space of a family, e.g. `space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128))`.

    The arguments are passed to the family's function in `FAMILIES`.

    Raises:
        SpaceError: an unknown family or argument, or a value that does not describe a space.
    """
    return _make(family, arguments)


def from_json(text: str) -> Space:
    """Read a space written by `Space.to_json`.

    Raises:
        SpaceError: not JSON, another format, arguments that do not describe a space, or choices outside that space.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpaceError(f"not a space: the text is not JSON ({error})") from None
    names = {"format", "family", "arguments"}
    if not isinstance(data, dict) or set(data) - {"choices"} != names or not isinstance(data["arguments"], dict):
        raise SpaceError("not a space: expected an object with format, family, arguments and, for a part of the space, choices")
    if data["format"] != "onceforall.space/1":
        raise SpaceError(f"unknown space format {data['format']!r}: this version reads 'onceforall.space/1'")
    full = _make(data["family"], data["arguments"])
    if "choices" not in data:
        return full
    try:
        return _part(full, data["choices"])
    except (KeyError, TypeError, ValueError):
        raise SpaceError(f"not a space: its choices are not among those of its {full.family} arguments") from None


def _make(family: str, arguments: dict[str, Any]) -> Space:
    made: dict[str, Callable[..., Space]] = {**FAMILIES, "graph": graph_space}  # not a public family: it needs a network
    if not isinstance(family, str) or family not in made:
        raise SpaceError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)}")
    known = list(inspect.signature(made[family]).parameters)
    for name in arguments:
        if name not in known:
            raise SpaceError(f"{family} has no argument {name!r}: choose from {', '.join(known)}")
    return made[family](**arguments)


def _part(full: Space, choices: Any) -> Space:
    """The part of a space with exactly these choices, such as `Space.restrict` makes."""
    stages = tuple(
        replace(
            own,
            **{
                f.name: _among(getattr(own, f.name), given.get(f.name, [1]) if f.name == "heads" else given[f.name])
                for f in fields(Choices)
            },
        )
        for own, given in zip(full.stages, choices["stages"], strict=True)
    )
    return replace(full, resolutions=_among(full.resolutions, choices["resolutions"]), stages=stages)


def _among(own: Sequence[Any], given: Any) -> tuple[Any, ...]:
    kept = tuple(value for value in own if value in given)
    if not kept or len(kept) != len(given):
        raise ValueError
    return kept
