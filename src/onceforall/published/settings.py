"""Convert the original's settings of a sub-network, {"ks": ..., "e": ..., "d": ...} and for ResNet-50-D "w", to an `Arch` and back.

Lists cover all blocks of the largest network, including absent ones; a single number applies to all.
"image_size" or "r" may give the resolution, "wid" may be None, as in the original's search results.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arch import Arch, Block, Stage
from ..errors import ArchError
from ..space import Choices, Space
from ..spaces import FAMILIES
from ..spaces.resnet50d import BASE_DEPTHS, stage_widths


def arch(space: Space, settings: Mapping[str, Any], resolution: int | None = None) -> Arch:
    """Convert the original's settings to an architecture.

    Args:
        space: a space of the settings' family.
        settings: "ks", "e" and "d"; for ResNet-50-D "e", "d" and "w". Entries of absent blocks may be any number.
        resolution: input size in pixels; None takes it from "image_size" or "r" in the settings.

    Raises:
        ArchError: an entry is missing, unknown, of the wrong length, or not in the space.
    """
    if not isinstance(settings, Mapping):
        raise ArchError(f'settings are {_shown(settings)}: give a dictionary such as {{"ks": 7, "e": 6, "d": 4}}')
    to_stages, _ = _layout(space)
    made = Arch(_resolution(settings, resolution), to_stages(space, settings))
    space.check(made)
    return space.archs(space.genes([made]))[0]  # with the space's own numbers, so that 4.0 becomes 4


def settings(space: Space, arch: Arch) -> dict[str, Any]:
    """Convert an architecture to the original's settings with "image_size". Absent blocks get the smallest choices.

    If two of ResNet-50-D's width multipliers give the same width, the index of the smaller one is used.

    Raises:
        ArchError: the architecture lies outside the space, or the space's family is not one of the original's.
    """
    _, from_arch = _layout(space)
    space.check(arch)
    return {**from_arch(space, arch), "image_size": arch.resolution}


def _require_known(space: Space, settings: Mapping[str, Any], *names: str) -> None:
    for name in settings:
        if name not in (*names, "image_size", "r") and not (name == "wid" and settings[name] is None):
            raise ArchError(f"settings have an unknown entry {_shown(name)}: a {space.family} network has {', '.join(names)}")


def _numbers(space: Space, settings: Mapping[str, Any], name: str, length: int) -> list[Any]:
    """The entry as a list of numbers; a single number is repeated."""
    if name not in settings:
        raise ArchError(f"settings have no {name!r}: a {space.family} network needs it, a number or {length} of them")
    value = _plain(settings[name])
    values = [_plain(item) for item in value] if isinstance(value, list) else [value] * length
    if len(values) != length:
        raise ArchError(f"{name} has {len(values)} values: {space.family} needs {length}, or one number for all")
    for item in values:
        if not _is_number(item):
            raise ArchError(f"{name} holds {_shown(item)}: it must be a number")
    return values


def _mobile_stages(space: Space, settings: Mapping[str, Any]) -> tuple[Stage, ...]:
    _require_known(space, settings, "ks", "e", "d")
    full = _full(space)
    blocks = sum(choices.depths[-1] for choices in full)
    listed = _blocks(full, _numbers(space, settings, "ks", blocks), _numbers(space, settings, "e", blocks))
    stages = []
    for s, (choices, d) in enumerate(zip(full, _numbers(space, settings, "d", len(full)), strict=True)):
        fixed = choices.depths != space.arguments["depths"]  # the original also samples a depth here, but does not use it
        depth = choices.depths[0] if fixed and d in space.arguments["depths"] else d
        stages.append(Stage(choices.widths[0], _first(listed[s], depth, s)))
    return tuple(stages)


def _mobile_settings(space: Space, arch: Arch) -> dict[str, Any]:
    blocks = _all_blocks(_full(space), arch.stages)
    return {"ks": [b.kernel for b in blocks], "e": [b.expand_ratio for b in blocks], "d": list(arch.depths)}


def _resnet_stages(space: Space, settings: Mapping[str, Any]) -> tuple[Stage, ...]:
    _require_known(space, settings, "ks", "e", "d", "w")
    full, widths = _full(space), stage_widths(space.arguments)
    blocks = sum(choices.depths[-1] for choices in full[2:])
    kernels = _numbers(space, settings, "ks", blocks) if "ks" in settings else [3] * blocks
    listed = _blocks(full[2:], kernels, _numbers(space, settings, "e", blocks))
    chosen = []
    for w, options in zip(_numbers(space, settings, "w", len(widths)), widths, strict=True):
        if w not in range(len(options)):
            raise ArchError(f"w holds {w}: it must be an index from 0 to {len(options) - 1}")
        chosen.append(options[int(w)])
    stem, *extra = _numbers(space, settings, "d", len(full) - 1)
    allowed = sorted({0, *space.arguments["depths"], _stem_kept(space)})
    if stem not in allowed:
        raise ArchError(f"d of the stem is {stem}: it must be one of {', '.join(map(str, allowed))}; {_stem_kept(space)} keeps it")
    conv = Block(full[0].kernels[0], full[0].expand_ratios[0])
    stages = [Stage(chosen[0], (conv,) * (1 + (stem == _stem_kept(space)))), Stage(chosen[1], (conv,))]
    for s, (width, base, d) in enumerate(zip(chosen[2:], BASE_DEPTHS, extra, strict=True)):
        stages.append(Stage(width, _first(listed[s], base + d, s + 2)))
    return tuple(stages)


def _resnet_settings(space: Space, arch: Arch) -> dict[str, Any]:
    stem, _, *stages = arch.stages
    blocks = _all_blocks(_full(space)[2:], stages)
    extra = [stage.depth - base for stage, base in zip(stages, BASE_DEPTHS, strict=True)]
    widths = stage_widths(space.arguments)
    return {
        "e": [block.expand_ratio for block in blocks],
        "d": [(stem.depth - 1) * _stem_kept(space), *extra],
        "w": [options.index(stage.width) for options, stage in zip(widths, arch.stages, strict=True)],
    }


LAYOUTS = {
    "mobilenet_v3": (_mobile_stages, _mobile_settings),
    "proxyless": (_mobile_stages, _mobile_settings),
    "resnet50d": (_resnet_stages, _resnet_settings),
}


def _layout(space: Space) -> Any:
    if space.family not in LAYOUTS:
        raise ArchError(f"{space.family} is not one of the original's families: its settings describe {', '.join(LAYOUTS)}")
    return LAYOUTS[space.family]


def _full(space: Space) -> tuple[Choices, ...]:
    """The stages of the full space, of which the given one may be a part: settings cover all of its blocks."""
    return FAMILIES[space.family](**space.arguments).stages


def _stem_kept(space: Space) -> int:
    """The entry of "d" that keeps the stem's second convolution: the largest depth choice, or 2 if that is 0."""
    return int(space.arguments["depths"][-1]) or 2


def _blocks(full: Iterable[Choices], kernels: Sequence[Any], ratios: Sequence[Any]) -> list[tuple[Block, ...]]:
    """All listed blocks, by stage."""
    pairs = iter(zip(kernels, ratios, strict=True))
    return [tuple(Block(*next(pairs)) for _ in range(choices.depths[-1])) for choices in full]


def _all_blocks(full: Iterable[Choices], stages: Iterable[Stage]) -> list[Block]:
    """The blocks of all stages; absent ones have the smallest choices."""
    result: list[Block] = []
    for choices, stage in zip(full, stages, strict=True):
        absent = Block(choices.kernels[0], choices.expand_ratios[0])
        result += [*stage.blocks, *[absent] * (choices.depths[-1] - stage.depth)]
    return result


def _first(blocks: tuple[Block, ...], depth: Any, stage: int) -> tuple[Block, ...]:
    if depth not in range(len(blocks) + 1):
        raise ArchError(f"d asks for {depth} blocks in stage {stage}: it has up to {len(blocks)}")
    return blocks[: int(depth)]


def _resolution(settings: Mapping[str, Any], resolution: object) -> int:
    given = [_plain(settings[name]) for name in ("image_size", "r") if name in settings]
    given = [_plain(value[0]) if isinstance(value, list) and len(value) == 1 else value for value in given]
    found = [*([] if resolution is None else [_plain(resolution)]), *given]
    if not found:
        raise ArchError("no resolution: pass it, or add image_size to the settings")
    if not all(_is_number(value) and value == found[0] for value in found):
        raise ArchError(f"the resolution is {' and '.join(map(_shown, found))}: it must be one whole number of pixels")
    return found[0]  # type: ignore[no-any-return]


def _plain(value: object) -> Any:
    """Convert numpy values to Python numbers and lists, and tuples to lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"
