"""Read third-party JSON objects with checks at every step; error messages say where in the file the value is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from ..errors import ArchError
from ..ops import ActivationName

MOST_CHANNELS = 2**16
MOST_BLOCKS = 1000
IGNORED = {"name", "dropout_rate"}  # dropout only matters in training


@dataclass(frozen=True)
class ConfigNode:
    """A part of the configuration, with its location for messages."""

    fields: Mapping[str, Any]
    where: str

    def child(self, *names: str) -> "ConfigNode":
        """The object under the first of these names that exists."""
        for name in names:
            if name in self.fields:
                return node(self.fields[name], f"{self.where}.{name}")
        raise ArchError(f"{self.where} has no {names[0]!r}")

    def items(self, name: str) -> "list[ConfigNode]":
        value = self.fields.get(name)
        if not isinstance(value, list) or not 0 < len(value) <= MOST_BLOCKS:
            raise ArchError(f"{self.where}.{name} must be a list of 1 to {MOST_BLOCKS} layers")
        return [node(item, f"{self.where}.{name}[{i}]") for i, item in enumerate(value)]

    def whole(self, name: str) -> int:
        value = self.fields.get(name)
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]  # [3, 3]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_CHANNELS:
            raise ArchError(f"{self.where}.{name} is {value!r}: it must be a whole number from 1 to {MOST_CHANNELS}")
        return value

    def number(self, name: str) -> float:
        value = self.fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < MOST_CHANNELS:
            raise ArchError(f"{self.where}.{name} is {value!r}: it must be a number above 0")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise ArchError(f"{self.where}.{name} is {value!r}: it must be true or false")
        return value

    def kind(self, *names: str) -> str:
        value = self.fields.get("name")
        if value not in names:
            raise ArchError(f"{self.where}.name is {value!r}: only {' or '.join(names)} can be read here")
        return str(value)

    def activation(self) -> ActivationName | None:
        value = self.fields.get("act_func")
        if value not in (None, "none", *get_args(ActivationName)):
            raise ArchError(f"{self.where}.act_func is {value!r}: only {', '.join(get_args(ActivationName))} or none can be read")
        return None if value in (None, "none") else cast(ActivationName, value)

    def require(self, **expected: Sequence[Any]) -> None:
        """Reject given values that a plan cannot express."""
        for name, allowed in expected.items():
            if name in self.fields and self.fields[name] not in allowed:
                raise ArchError(f"{self.where}.{name} is {self.fields[name]!r}: only {allowed[0]!r} can be read")

    def known(self, *names: str) -> None:
        for name in self.fields:
            if name not in IGNORED and name not in names:
                raise ArchError(f"{self.where} has an unknown entry {name!r}: this version reads {', '.join(names)}")


def node(value: Any, where: str) -> ConfigNode:
    """The value as an object.

    Raises:
        ArchError: it is not an object.
    """
    if not isinstance(value, dict):
        raise ArchError(f"{where} must be an object, found {type(value).__name__}")
    return ConfigNode(value, where)
