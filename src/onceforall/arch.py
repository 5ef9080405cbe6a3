"""`Arch`: the description of one network.

It is canonical: absent blocks are not listed, so each network has exactly one `Arch`, one JSON text and one hash.
"""

import json
from dataclasses import dataclass
from typing import Any

from .errors import ArchError, SpaceError
from .resolutions import Resolution, read_resolution

FORMAT = "onceforall.arch/1"


@dataclass(frozen=True, slots=True)
class Block:
    """One block: the kernel size of its spatial convolution, its expand ratio (middle width over reference width), and the share
    of its attention heads, which is written to JSON only where it is not 1."""

    kernel: int
    expand_ratio: float
    heads: float = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one output width; the depth is the number of blocks."""

    width: int
    blocks: tuple[Block, ...]

    @property
    def depth(self) -> int:
        return len(self.blocks)


@dataclass(frozen=True, slots=True)
class Arch:
    """A sub-network: its input resolution in pixels ("HEIGHTxWIDTH" if not square) and its elastic stages, input to output."""

    resolution: Resolution
    stages: tuple[Stage, ...]

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(stage.depth for stage in self.stages)

    def to_json(self) -> str:
        """The architecture as JSON text; equal architectures have equal texts."""
        stages = [
            {"width": _number(stage.width), "blocks": [_block_fields(block) for block in stage.blocks]} for stage in self.stages
        ]
        return json.dumps(
            {
                "format": FORMAT,
                "resolution": self.resolution if isinstance(self.resolution, str) else _number(self.resolution),
                "stages": stages,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Read what `to_json` wrote.

        Raises:
            ArchError: not JSON, another format, or a field that is missing, unknown or of the wrong type.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArchError(f"not an architecture: the text is not JSON ({error})") from None
        fields = _fields(data, {"format", "resolution", "stages"}, "architecture")
        if fields["format"] != FORMAT:
            raise ArchError(f"unknown architecture format {fields['format']!r}: this version reads {FORMAT!r}")
        return cls(
            resolution=_resolution(fields["resolution"]),
            stages=tuple(_stage(s, f"stages[{i}]") for i, s in enumerate(_list(fields["stages"], "stages"))),
        )


def _block_fields(block: Block) -> dict[str, float]:
    heads = {} if block.heads == 1 else {"heads": _number(block.heads)}
    return {"kernel": _number(block.kernel), "expand_ratio": _number(block.expand_ratio), **heads}


def _stage(data: Any, where: str) -> Stage:
    fields = _fields(data, {"width", "blocks"}, where)
    blocks = []
    for j, item in enumerate(_list(fields["blocks"], f"{where}.blocks")):
        at = f"{where}.blocks[{j}]"
        heads = {"heads"} if isinstance(item, dict) and "heads" in item else set[str]()
        block = _fields(item, {"kernel", "expand_ratio", *heads}, at)
        kernel, ratio = _integer(block["kernel"], f"{at}.kernel"), _ratio(block["expand_ratio"], f"{at}.expand_ratio")
        blocks.append(Block(kernel, ratio, _ratio(block["heads"], f"{at}.heads") if heads else 1))
    return Stage(_integer(fields["width"], f"{where}.width"), tuple(blocks))


def _fields(data: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != names:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ArchError(f"{where}: expected an object with exactly {sorted(names)}, found {found}")
    return data


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ArchError(f"{where}: expected a list, found {type(value).__name__}")
    return value


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArchError(f"{where}: expected a whole number of at least 1, found {value!r}")
    return value


def _resolution(value: Any) -> Resolution:
    try:
        if isinstance(value, str) and read_resolution(value) == value:
            return value
    except SpaceError:
        pass
    if isinstance(value, str):
        raise ArchError(f"resolution: expected pixels, or a text such as 160x224 if not square, found {value!r}")
    return _integer(value, "resolution")


def _ratio(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
        raise ArchError(f"{where}: expected a positive number, found {value!r}")
    return _number(value)


def _number(value: float) -> float:
    """Turn whole numbers into int, so that 4, 4.0 and numpy's 4 give the same architecture and the same text."""
    return int(value) if value == int(value) else float(value)
