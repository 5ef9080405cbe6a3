"""Parse values from the command line: times, large numbers, sizes, and arguments of a space."""

import math
import re
from collections.abc import Iterator
from typing import Any

from ..errors import SpaceError, ValueTextError
from ..resolutions import Resolution, read_resolution

NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
NAMES = {1.0: "s sec secs second seconds", 60.0: "m min mins minute minutes", 3600.0: "h hr hrs hour hours", 86400.0: "d day days"}
SECONDS = {name: seconds for seconds, names in NAMES.items() for name in names.split()}
BELOW = {60.0: "s", 3600.0: "m", 86400.0: "h"}  # the unit of the last number if omitted, as in 1h30
SHORTEST_MS = 1e-9  # shortest latency; dividing by much less overflows
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
FACTORS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
BYTES = {"": 1.0, "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def duration_s(text: str) -> float:
    """ "90s", "30m", "1.5h", "1h30m", "1h30" or "2d 12h" in seconds: each unit once, the longest first."""
    parts = re.findall(rf"({NUMBER})\s*([A-Za-z]*)", text)
    whole = re.fullmatch(rf"\s*(?:{NUMBER}\s*[A-Za-z]+\s*)+(?:{NUMBER})?\s*", text)
    if whole and len(parts) > 1 and not parts[-1][1]:
        parts[-1] = parts[-1][0], BELOW.get(SECONDS.get(parts[-2][1], 0.0), "")
    units = [SECONDS.get(unit, 0.0) for _, unit in parts]
    value = sum(float(number) * unit for (number, _), unit in zip(parts, units, strict=True))
    if not whole or not all(units) or units != sorted(set(units), reverse=True) or not 0 < value < math.inf:
        raise ValueTextError(f"{text!r}: a time such as 90s, 30m, 1.5h, 1h30m or 2d is needed")
    return value


def latencies_ms(text: str) -> list[float]:
    """ "5ms" or "2ms,5ms,800us" in milliseconds."""
    return [_number(part, MILLISECONDS, "a latency such as 5ms or 800us", least=SHORTEST_MS) for part in text.split(",")]


def amount_of_text(text: str) -> float:
    """ "300M" as 300e6."""
    return _number(text, FACTORS, "a number such as 300M or 4000000")


def memory_bytes(text: str) -> float:
    """ "4MB" or "512KiB" in bytes."""
    return _number(text, BYTES, "a size such as 4MB or 512KiB")


def space_arguments(text: str) -> dict[str, Any]:
    """ "width=0.5,resolutions=96/112/128" as arguments of `onceforall.space`; several values are separated by slashes.

    A name before a colon chooses the family: "mobilenet_v3:width=0.5".
    """
    family, colon, rest = text.partition(":")
    arguments: dict[str, Any] = {"family": family} if colon else {}
    for pair, name, value in _pairs(rest if colon else text, "space", "width=0.5 or resolutions=96/112/128"):
        values: list[Any] = value.split("/")
        values = [_resolution(part) if name == "resolutions" and "x" in part else _plain(part, pair) for part in values]
        if name in arguments:
            raise ValueTextError(f"space: {name} is given twice: give it once, with several values separated by slashes")
        arguments[name] = values[0] if name in ("width", "channels") and len(values) == 1 else tuple(values)
    return arguments


def recipe_values(text: str) -> dict[str, Any]:
    """ "mixup=0.2,policy=trivial_augment,flip=no,crop_scale=0.35/1" as values of a recipe by name."""
    values: dict[str, Any] = {}
    for pair, name, value in _pairs(text, "recipe", "mixup=0.2 or policy=trivial_augment"):
        if name in values:
            raise ValueTextError(f"recipe: {name} is given twice: give it once")
        if re.fullmatch(rf"-?{NUMBER}(?:/-?{NUMBER})*", value):
            several = tuple(_plain(part, pair) for part in value.split("/"))
            values[name] = several if len(several) > 1 else several[0]
        else:
            values[name] = {"yes": True, "true": True, "no": False, "false": False}.get(value.lower(), value)
    return values


def with_resolutions(space: str | None, resolutions: str | None) -> dict[str, Any] | None:
    """Arguments of a space, merged with resolutions such as "160,192,224"; None if neither is given."""
    arguments = None if space is None else space_arguments(space)
    if resolutions is None:
        return arguments
    if arguments and "resolutions" in arguments:
        raise ValueTextError("--resolutions and --space both give resolutions: leave one out")
    parts = [part.strip() for part in resolutions.replace("/", ",").split(",")]
    if not all("x" in part or (part.isascii() and part.isdigit()) for part in parts):
        raise ValueTextError(
            f"--resolutions {resolutions!r}: numbers of pixels such as 160,192,224 are needed, or HEIGHTxWIDTH such as 160x224"
        )
    return {**(arguments or {}), "resolutions": tuple(_resolution(part) if "x" in part else int(part) for part in parts)}


def numbers(text: str) -> tuple[float, ...]:
    """ "0.5" or "0.485,0.456,0.406" as numbers."""
    try:
        return tuple(float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        raise ValueTextError(f"{text!r}: one number, or several separated by commas, such as 0.5,0.4,0.3, is needed") from None


def value_range(text: str) -> tuple[float, float]:
    """ "0,4095" as the values that become black and white."""
    ends = numbers(text)
    if len(ends) != 2:
        raise ValueTextError(f"--range {text!r}: the values that become black and white are needed, such as 0,4095")
    return ends[0], ends[1]


def _pairs(text: str, what: str, example: str) -> Iterator[tuple[str, str, str]]:
    """Each pair of "name=value,name=value" as written, with its name and its value."""
    for pair in text.split(","):
        if not pair.strip():
            continue
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not value:
            raise ValueTextError(f"{what}: {pair!r} is not of the form name=value, such as {example}")
        yield pair, name, value


def _resolution(text: str) -> Resolution:
    try:
        return read_resolution(text)
    except SpaceError as error:
        raise ValueTextError(str(error)) from None


def _plain(text: str, pair: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueTextError(f"space: {text!r} in {pair!r} is not a number") from None
    return int(number) if number.is_integer() and "." not in text and abs(number) < 1e15 else number


def _number(text: str, units: dict[str, float], wanted: str, least: float = 1.0) -> float:
    match = re.fullmatch(rf"\s*({NUMBER})\s*([A-Za-zµ]*)\s*", text)
    value = float(match[1]) * units[match[2]] if match and match[2] in units else 0.0
    if not least <= value < math.inf:
        raise ValueTextError(f"{text!r}: {wanted} is needed")
    return value
