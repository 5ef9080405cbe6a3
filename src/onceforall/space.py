"""`Space`: the choices that define a set of architectures, with methods to check, count, sample, change and lower them.

Many architectures at once are an integer gene matrix (n, len(space.columns)): each entry indexes its column's choices,
or is -1 where the block is absent. Search and predictors work on gene matrices; see `genes.py` for the operations.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from . import genes as gene_ops
from .arch import Arch, Block, Stage
from .common.readable import amount, plural
from .errors import ArchError, SpaceError
from .genes import Column, Genes, Kind
from .plan import Plan
from .resolutions import Resolution, in_pixels

Value = TypeVar("Value")


@dataclass(frozen=True)
class Choices:
    """The choices of one stage. Each sequence is ascending and without repeats."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expand_ratios: tuple[float, ...]
    heads: tuple[float, ...] = (1,)  # shares of attention heads

    @property
    def per_block(self) -> int:
        return len(self.kernels) * len(self.expand_ratios) * len(self.heads)

    @property
    def of_block(self) -> tuple[tuple[Kind, tuple[float, ...]], ...]:
        """Choices of each block, in column order. Heads have a column only if there is a choice."""
        heads: tuple[tuple[Kind, tuple[float, ...]], ...] = (("heads", self.heads),) if len(self.heads) > 1 else ()
        return (("kernel", self.kernels), ("expand_ratio", self.expand_ratios), *heads)

    def block(self, indices: Sequence[int]) -> Block:
        """The block given by one index into each of its choices."""
        kernel, ratio, *rest = indices
        return Block(self.kernels[kernel], self.expand_ratios[ratio], self.heads[rest[0] if rest else 0])

    def indices(self, block: Block) -> list[int]:
        """The inverse of `block`."""
        rest = [self.heads.index(block.heads)] if len(self.heads) > 1 else []
        return [self.kernels.index(block.kernel), self.expand_ratios.index(block.expand_ratio), *rest]


@dataclass(frozen=True)
class Space:
    """A family of networks with its choices, made by `onceforall.space(family, ...)`.

    Args:
        family: name in `onceforall.spaces.FAMILIES`.
        arguments: the arguments of `onceforall.space` with all defaults filled in; JSON-serializable.
        resolutions: input sizes in pixels, ascending; "HEIGHTxWIDTH" if not square.
        stages: choices of each elastic stage, from input to output.
        lowering: (arch, num_classes) -> Plan. Segment "stages.S.I" is block I of stage S; it depends on the resolution,
            its own choices, its stage's width and, for I = 0, the width of the stage before. Other segments depend on the
            resolution and on the widths of the stages before and after them.
        classes: default number of classifier outputs.
        modules: for a user's own model, the module that each segment comes from.
        fixed: for a user's own model, what is not elastic and why, as "module: reason".
        interpolated: for a user's own model, the position embeddings that are interpolated at each resolution.
    """

    family: str
    arguments: dict[str, Any] = field(hash=False)
    resolutions: tuple[Resolution, ...]
    stages: tuple[Choices, ...]
    lowering: Callable[[Arch, int], Plan] = field(compare=False, repr=False)
    classes: int = 1000
    modules: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    fixed: tuple[str, ...] = field(default=(), compare=False, repr=False)
    interpolated: Mapping[Resolution, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def channels(self) -> int:
        """Channels of the input images."""
        channels: int = (self.arguments.get("graph") or self.arguments).get("channels", 3)
        return channels

    def __repr__(self) -> str:
        given = {name: value for name, value in self.arguments.items() if name != "graph"}  # which fills pages
        text = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"Space({self.family!r}, {text}, {len(self.stages)} stages)"

    # -- one architecture ------------------------------------------------------------------------------------------

    def largest(self, resolution: Resolution | None = None) -> Arch:
        """The architecture with the largest choice everywhere, at the largest or the given resolution."""
        return self._extreme(-1, resolution)

    def smallest(self, resolution: Resolution | None = None) -> Arch:
        """The architecture with the smallest choice everywhere, at the smallest or the given resolution."""
        return self._extreme(0, resolution)

    def sample(self, rng: np.random.Generator) -> Arch:
        """Draw every choice uniformly and independently: resolution, widths and depths, then each block."""
        return self.archs(self.sample_genes(rng, 1))[0]

    def mutate(self, arch: Arch, rng: np.random.Generator, probability: float = 0.1) -> Arch:
        """Redraw each choice with the given probability."""
        return self.archs(gene_ops.mutate(self.columns, self.genes([arch]), rng, probability))[0]

    def cross(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take each choice from one of two parents, with equal odds."""
        return self.archs(gene_ops.cross(self.columns, self.genes([first]), self.genes([second]), rng))[0]

    def neighbours(self, arch: Arch) -> list[Arch]:
        """All architectures one step away: one choice changed to any other value, or a depth changed to the next one up
        or down, where all added blocks are equal, once for each kernel and ratio."""
        return self.archs(gene_ops.neighbours(self.columns, self.genes([arch])[0]))

    def count(self) -> int:
        """Number of different architectures, exact."""
        total = len(self.resolutions)
        for stage in self.stages:
            total *= len(stage.widths) * sum(stage.per_block**depth for depth in stage.depths)
        return total

    def check(self, arch: Arch) -> None:
        """Check that the architecture lies in this space.

        Raises:
            ArchError: names the first value that does not fit, and what is allowed there.
        """
        if not isinstance(arch, Arch):
            raise ArchError(f"{arch!r} is not an Arch: get one from space.largest(), space.sample(rng) or Arch.from_json(text)")
        self._allowed("resolution", arch.resolution, self.resolutions)
        if len(arch.stages) != len(self.stages):
            raise ArchError(f"the architecture has {len(arch.stages)} stages, this {self.family} space has {len(self.stages)}")
        for s, (stage, choices) in enumerate(zip(arch.stages, self.stages, strict=True)):
            self._allowed(f"width of stage {s}", stage.width, choices.widths)
            self._allowed(f"depth of stage {s}", stage.depth, choices.depths)
            for i, block in enumerate(stage.blocks):
                self._allowed(f"kernel of block {i} in stage {s}", block.kernel, choices.kernels)
                self._allowed(f"expand ratio of block {i} in stage {s}", block.expand_ratio, choices.expand_ratios)
                self._allowed(f"share of heads of block {i} in stage {s}", block.heads, choices.heads)

    def __contains__(self, arch: Arch) -> bool:
        try:
            self.check(arch)
        except ArchError:
            return False
        return True

    def lower(self, arch: Arch, num_classes: int | None = None) -> Plan:
        """The plan of an architecture: its operations with all shapes.

        Args:
            arch: which sub-network.
            num_classes: classifier outputs; by default `classes`: 1000, or as in the model that the space was made from.

        Raises:
            ArchError: the architecture lies outside this space.
        """
        self.check(arch)
        if num_classes is None:
            num_classes = self.classes
        if num_classes < 1:
            raise ArchError(f"num_classes is {num_classes}: a classifier needs at least 1 class")
        return self.lowering(arch, num_classes)

    def summary(self) -> str:
        """Several lines of text: what is elastic, what is not, and which operation of which module is the reason."""
        plans = [self.lower(arch) for arch in (self.smallest(), self.largest())]
        small, large = (f"{amount(plan.macs)} MACs, {amount(plan.params)} parameters" for plan in plans)
        count = self.count()
        first = f"{count:.3g} networks from {small} to {large}" if count > 1 else f"1 network of {large}: nothing is elastic"
        lines = [first, f"resolutions: {_resolutions(self.resolutions)} pixels"]
        lines += [] if self.channels == 3 else [f"images of {plural(self.channels, 'channel')}"]
        together: dict[tuple[str, ...], list[Resolution]] = {}
        for pixels in self.resolutions:
            together.setdefault(self.interpolated.get(pixels, ()), []).append(pixels)
        lines += [
            f"interpolated at {_resolutions(pixels)} pixels: {', '.join(names)}" for names, pixels in together.items() if names
        ]
        if self.stages:
            table = self._stage_table()
            widths = [max(map(len, (title, *cells))) for title, cells in table.items()]
            for row in (tuple(table), *zip(*table.values(), strict=True)):
                lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if self.fixed:
            lines.append("not elastic:")
            reasons: dict[str, list[str]] = {}
            for line in self.fixed:
                module, _, reason = line.partition(": ")
                reasons.setdefault(reason, []).append(module)
            for reason, modules in reasons.items():
                more = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
                lines.append(f"  {', '.join(modules[:3])}{more}: {reason}")
        return "\n".join(lines)

    def _stage_table(self) -> dict[str, list[str]]:
        """The table's columns by title, with one cell per stage."""
        stages, own = self.stages, self.family == "graph"

        def choices(name: str) -> list[str]:
            return [_numbers(values) if len(values := getattr(stage, name)) > 1 else "–" for stage in stages]

        table = {
            "stage": [str(s) for s in range(len(stages))],
            "blocks": [str(stage.depths[-1]) for stage in stages],
            "depths": [_numbers(stage.depths) for stage in stages],
        }
        if any(len(stage.widths) > 1 for stage in stages):
            table["widths"] = choices("widths")
        if not own:
            return table | {"expand ratios": choices("expand_ratios"), "kernels": choices("kernels")}
        table |= {"shares of widths": choices("expand_ratios"), "shares of heads": choices("heads"), "kernels": choices("kernels")}
        table["of the model"] = []
        for s, stage in enumerate(stages):
            names = [name for i in range(stage.depths[-1]) if (name := self.modules.get(f"stages.{s}.{i}"))]
            table["of the model"].append(f"{names[0]} … {names[-1]}" if len(set(names)) > 1 else (*names, "")[0])
        return table

    # -- many architectures ----------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a gene matrix: resolution, then for each stage its width, its depth and each block's choices."""
        columns = [Column("resolution", self.resolutions)]
        for s, stage in enumerate(self.stages):
            columns.append(Column("width", stage.widths, s))
            columns.append(Column("depth", stage.depths, s))
            for i in range(stage.depths[-1]):
                columns += [Column(kind, values, s, i) for kind, values in stage.of_block]
        return tuple(columns)

    def sample_genes(self, rng: np.random.Generator, n: int) -> Genes:
        """n rows, each drawn like `sample`."""
        return gene_ops.sample(self.columns, rng, n)

    def genes(self, archs: Sequence[Arch]) -> Genes:
        """Gene matrix (n, columns) of the architectures.

        Raises:
            ArchError: one of them lies outside this space.
        """
        matrix = np.full((len(archs), len(self.columns)), -1, np.int16)
        for row, arch in zip(matrix, archs, strict=True):
            self.check(arch)
            values: list[int] = [self.resolutions.index(arch.resolution)]
            for stage, choices in zip(arch.stages, self.stages, strict=True):
                values += [choices.widths.index(stage.width), choices.depths.index(stage.depth)]
                for block in stage.blocks:
                    values += choices.indices(block)
                values += [-1] * len(choices.of_block) * (choices.depths[-1] - stage.depth)
            row[:] = values
        return matrix

    def rows(self, archs: Sequence[Arch] | Genes) -> Genes:
        """A checked gene matrix, int16 (n, columns), from architectures or another gene matrix.

        Raises:
            ArchError: an architecture outside the space, or a matrix that does not fit this space.
        """
        if not isinstance(archs, np.ndarray):
            return self.genes(archs)
        gene_ops.check(self.columns, archs)
        return archs.astype(np.int16, copy=False)

    def archs(self, genes: Genes) -> list[Arch]:
        """The architectures of a gene matrix.

        Raises:
            ArchError: wrong shape, an index out of range, or a row that is not canonical.
        """
        gene_ops.check(self.columns, genes)
        return [self._arch(row) for row in genes.tolist()]

    def encode(self, genes: Genes) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """One-hot features, float32 (n, features), of every column with more than one choice; absent blocks are zeros."""
        return gene_ops.one_hot(self.columns, genes)

    # -- the space itself ------------------------------------------------------------------------------------------

    def restrict(self, **choices: Sequence[Any]) -> "Space":
        """The sub-space with only the given values of the named choices.

        A stage that offers none of these values keeps its own. Names: resolutions, widths, depths, kernels, expand_ratios, heads.

        Raises:
            SpaceError: an unknown name, no value, or a value that occurs nowhere in this space.
        """
        stages, resolutions = list(self.stages), self.resolutions
        for name, values in choices.items():
            offered: list[Any] = []
            if name == "resolutions":
                offered = list(resolutions)
                resolutions = _keep(resolutions, values)
            elif name in Choices.__dataclass_fields__:
                offered = sorted({value for stage in stages for value in getattr(stage, name)})
                stages = [replace(stage, **{name: _keep(getattr(stage, name), values)}) for stage in stages]
            else:
                raise SpaceError(f"unknown choice {name!r}: use resolutions, widths, depths, kernels, expand_ratios or heads")
            if len(values) == 0 or set(values) - set(offered):
                raise SpaceError(f"{name}={tuple(values)}: this {self.family} space offers {_abbreviated(offered)}")
        return replace(self, resolutions=resolutions, stages=tuple(stages))

    def keep_largest(self, **numbers: int) -> "Space":
        """The sub-space that keeps, in every stage, the given number of largest values of the named choices.

        Names: widths, depths, kernels, expand_ratios, heads. A stage with fewer values keeps them all.

        Raises:
            SpaceError: an unknown name, or a number below 1.
        """
        stages = self.stages
        for name, number in numbers.items():
            if name not in Choices.__dataclass_fields__ or number < 1:
                raise SpaceError(
                    f"cannot keep the {number} largest {name!r}: use widths, depths, kernels, expand_ratios or heads, at least 1"
                )
            stages = tuple(replace(stage, **{name: getattr(stage, name)[-number:]}) for stage in stages)
        return replace(self, stages=stages)

    def to_json(self) -> str:
        """Family, arguments and choices as JSON text; `onceforall.spaces.from_json` reads it."""
        stages = [asdict(stage) for stage in self.stages]
        for stage in stages:
            if stage["heads"] == (1,):
                del stage["heads"]  # keeps the format of files from before heads were elastic
        choices = {"resolutions": self.resolutions, "stages": stages}
        return json.dumps({"format": "onceforall.space/1", "family": self.family, "arguments": self.arguments, "choices": choices})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _extreme(self, index: Literal[0, -1], resolution: Resolution | None) -> Arch:
        if resolution is not None:
            self._allowed("resolution", resolution, self.resolutions)
            resolution = self.resolutions[self.resolutions.index(resolution)]
        stages = tuple(
            Stage(c.widths[index], (Block(c.kernels[index], c.expand_ratios[index], c.heads[index]),) * c.depths[index])
            for c in self.stages
        )
        return Arch(self.resolutions[index] if resolution is None else resolution, stages)

    def _arch(self, row: list[int]) -> Arch:
        resolution, at, stages = self.resolutions[row[0]], 1, []
        for choices in self.stages:
            width, depth = choices.widths[row[at]], choices.depths[row[at + 1]]
            each = len(choices.of_block)
            starts = range(at + 2, at + 2 + each * depth, each)
            stages.append(Stage(width, tuple(choices.block(row[start : start + each]) for start in starts)))
            at += 2 + each * choices.depths[-1]
        return Arch(resolution, tuple(stages))

    def _allowed(self, what: str, value: object, allowed: Sequence[object]) -> None:
        if value not in allowed:
            raise ArchError(f"{what} is {value}, this {self.family} space allows {_abbreviated(allowed)}")


def _keep(own: tuple[Value, ...], values: Sequence[Any]) -> tuple[Value, ...]:
    return tuple(v for v in own if v in set(values)) or own


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _resolutions(resolutions: Sequence[Resolution]) -> str:
    return ", ".join(in_pixels(resolution, "") for resolution in resolutions)


def _abbreviated(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) if len(values) <= 8 else f"{values[0]}, {values[1]}, … {values[-1]}"
