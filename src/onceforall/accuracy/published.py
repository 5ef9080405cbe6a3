"""The accuracy predictors published by the Once-for-All authors: perceptrons on one-hot choices.

Sources: ofa/tutorial/accuracy_predictor.py (MobileNetV3), ofa/nas/accuracy_predictor and tutorial/ofa_resnet50_example.ipynb
(ResNet-50-D) in the repository mit-han-lab/once-for-all, for the order of the inputs; Cai et al., ICLR 2020, for the error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArchError, CheckpointError
from ..genes import Genes
from ..space import Choices, Space
from ..spaces import space as make_space
from ..spaces.resnet50d import stage_widths
from .model import Array, Floats

RMSE = 0.0021  # as reported in the paper
CHUNK = 1024  # rows predicted at a time, so that the hidden values stay in the cache
STEP = 16  # pixels: the largest known resolution also covers those less than a step above it
NEGLIGIBLE = 1e-30  # training decayed some weights to almost zero; products with them are denormal and very slow

Inputs = dict[tuple[str, int, int, float], int]  # kind, stage and block of a gene column, and the value -> index of the input


@dataclass(frozen=True)
class _Layout:
    """Layout of a published predictor: the meaning of its inputs and the content of its file.

    Args:
        space: space of all choices that it knows.
        resolutions: resolutions of its inputs, ascending.
        first_resolution: index of the first input for a resolution.
        inputs: total number of inputs.
        choices: input indices of the other choices.
        weights: names of the layers' weights in the file, (outputs, inputs) each.
        biases: names of the layers' biases.
    """

    space: Space
    resolutions: tuple[int, ...]
    first_resolution: int
    inputs: int
    choices: Inputs
    weights: tuple[str, ...]
    biases: tuple[str, ...]

    def resolution_input(self, resolution: int) -> int:
        """The input of the largest resolution not above this one; -1 if there is none or the largest is a full step below."""
        if not self.resolutions[0] <= resolution < self.resolutions[-1] + STEP:
            return -1
        return self.first_resolution + int(np.searchsorted(self.resolutions, resolution, "right")) - 1

    def check(self, space: Space) -> None:
        """Check that the predictor knows every choice of the space; resolutions are only checked on prediction.

        Raises:
            ArchError: another family, other arguments, or choices that the predictor does not know.
        """
        full = self.space
        if space.channels != 3 or any(isinstance(one, str) for one in space.resolutions):
            raise ArchError(
                "this predictor is for square images with 3 channels, and the space has others: fit one (ofa accuracy fit), or "
                "restrict the space to squares"
            )
        if space.family != full.family:
            raise ArchError(f"this predictor is for {_call(full)}, not for {space.family}: load it for that space")
        for name in ("width", "strides"):
            if space.arguments[name] != full.arguments[name]:
                raise ArchError(
                    f"this predictor is for {_call(full)} with {name} {full.arguments[name]}, not {space.arguments[name]}, "
                    "whose networks differ: load it for that space or a part of it"
                )
        for s, (stage, known) in enumerate(zip(space.stages, full.stages, strict=True)):
            for name in Choices.__dataclass_fields__:
                values, allowed = getattr(stage, name), getattr(known, name)
                if not set(values) <= set(allowed):
                    raise ArchError(
                        f"stage {s} offers {name} {values}, this predictor knows {allowed}: restrict the space to those, or fit one"
                    )


def _call(space: Space) -> str:
    return f"space({space.family!r}, width={space.arguments['width']:g})"


def _mobilenet_v3() -> _Layout:
    """One-hot kernels of 5 × 4 blocks, then their ratios, then 8 resolutions. For width 1.2."""
    kernels, ratios, blocks = (3, 5, 7), (3, 4, 6), [(s, i) for s in range(5) for i in range(4)]
    choices: Inputs = {("kernel", *at, k): 3 * b + i for b, at in enumerate(blocks) for i, k in enumerate(kernels)}
    choices |= {("expand_ratio", *at, e): 60 + 3 * b + i for b, at in enumerate(blocks) for i, e in enumerate(ratios)}
    weights, biases = (tuple(f"{i}.{what}" for i in (0, 2, 4, 6)) for what in ("weight", "bias"))
    return _Layout(make_space("mobilenet_v3", width=1.2), tuple(range(112, 225, 16)), 120, 128, choices, weights, biases)


def _resnet50d() -> _Layout:
    """8 resolutions, then one-hot: stem convolution skipped or kept, widths of 6 stages, ratios of 4 + 4 + 6 + 4 blocks."""
    full = make_space("resnet50d")
    choices: Inputs = {("depth", 0, -1, 1): 8, ("depth", 0, -1, 2): 9}
    for s, stage in enumerate(stage_widths(full.arguments)):
        # Two multipliers give the stem 24 channels; in reverse order, the smaller one is used for both.
        choices |= {("width", s, -1, width): 10 + 3 * s + i for i, width in reversed(list(enumerate(stage)))}
    blocks = [(s, i) for s, depth in ((2, 4), (3, 4), (4, 6), (5, 4)) for i in range(depth)]
    choices |= {("expand_ratio", *at, e): 28 + 3 * b + i for b, at in enumerate(blocks) for i, e in enumerate((0.2, 0.25, 0.35))}
    layers = ("layers.0.0", "layers.1.0", "layers.2.0")
    weights, biases = (*(f"{n}.weight" for n in layers), "layers.3.weight"), (*(f"{n}.bias" for n in layers), "base_acc")
    return _Layout(full, (128, 144, 160, 176, 192, 224, 240, 256), 0, 82, choices, weights, biases)


LAYOUTS: dict[str, Callable[[], _Layout]] = {"mobilenet_v3": _mobilenet_v3, "resnet50d": _resnet50d}


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Forward pass of a multilayer perceptron with relu between its layers, made by `of`.

    Weights (inputs, outputs) and biases (outputs,) are float32, from the first layer to the last.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @classmethod
    def of(cls, weights: Sequence[Array], biases: Sequence[Array]) -> "Perceptron":
        """Build the perceptron with negligible weights set to zero and without hidden units that have no effect.

        Raises:
            ValueError: the shapes do not form a chain that ends in one number.
        """
        sizes = [len(weights[0]), *(w.shape[1] for w in weights)]
        if [w.shape for w in weights] != list(pairwise(sizes)) or [b.shape for b in biases] != [(n,) for n in sizes[1:]]:
            raise ValueError("the layers do not form a chain")
        if sizes[-1] != 1:
            raise ValueError(f"the last layer gives {sizes[-1]} numbers, not one")
        w, b = [_flushed(weight) for weight in weights], [_flushed(bias) for bias in biases]
        for i in range(len(w) - 1):
            constant = ~w[i].any(0)  # no input reaches these units: their contribution moves into the next biases
            added = np.maximum(b[i][constant], 0).astype(np.float64) @ w[i + 1][constant]
            b[i + 1] = (b[i + 1] + added).astype(np.float32)
            w[i], b[i], w[i + 1] = w[i][:, ~constant], b[i][~constant], w[i + 1][~constant]
        for i in reversed(range(len(w) - 1)):
            used = w[i + 1].any(1)
            w[i], b[i], w[i + 1] = w[i][:, used], b[i][used], w[i + 1][used]
        return cls(tuple(map(np.ascontiguousarray, w)), tuple(b))

    def __call__(self, x: Array) -> Array:
        """(n, inputs) float32 -> (n,) float32."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i:
                np.maximum(x, 0, out=x)
            x = x @ weight
            x += bias
        return x[:, 0]


def _flushed(array: Array) -> Array:
    return np.where(np.abs(array) < NEGLIGIBLE, 0, array).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """A published predictor for a space or a part of it, made by `from_file` or `read`.

    Its standard deviation is always the error reported in the paper (0.21 %); it is not calibrated.
    """

    space: Space
    name: str
    perceptron: Perceptron
    kind = "published"
    n = 0  # the files do not state the number of measured networks

    @classmethod
    def from_file(cls, path: Path | str, space: Space) -> "PublishedModel":
        """Read a published file.

        Raises:
            CheckpointError: unreadable, or not the tensors of a published predictor.
            ArchError: the space is neither the predictor's space nor a part of it.
        """
        from ..nn.tensor_files import read_tensors  # loads torch

        tensors = read_tensors(path)
        layouts = {name: make() for name, make in LAYOUTS.items()}
        fitting = [name for name, layout in layouts.items() if tensors.keys() == {*layout.weights, *layout.biases}]
        if not fitting:
            raise CheckpointError(
                f"{path}: holds {', '.join(list(tensors)[:3])}, …: not one of the published accuracy predictors "
                f"({', '.join(LAYOUTS)}): check the path"
            )
        name, layout = fitting[0], layouts[fitting[0]]
        for key, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise CheckpointError(
                    f"{path}: {key!r} holds {str(tensor.dtype).removeprefix('torch.')}, not float32: check the path"
                )
        arrays = {key: tensor.float().numpy() for key, tensor in tensors.items()}
        weights, biases = [arrays[key].T for key in layout.weights], [arrays[key] for key in layout.biases]
        if weights[0].ndim != 2 or len(weights[0]) != layout.inputs:
            shape = arrays[layout.weights[0]].shape
            raise CheckpointError(f"{path}: {layout.weights[0]} has shape {shape}: {name} needs (units, {layout.inputs})")
        try:
            perceptron = Perceptron.of(weights, biases)
        except (ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: not a published accuracy predictor, {error}: check the path") from None
        try:
            layout.check(space)
        except ArchError as error:
            raise ArchError(f"{path}: {error}") from None
        return cls(space, name, perceptron)

    @classmethod
    def read(cls, space: Space, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> "PublishedModel":
        """Restore a model from its description and arrays.

        Raises:
            LookupError, TypeError, ValueError: they do not fit together.
        """
        name, layers = description["layout"], range(len(arrays) // 2)
        perceptron = Perceptron.of([arrays[f"{i}.weight"] for i in layers], [arrays[f"{i}.bias"] for i in layers])
        if len(perceptron.weights[0]) != LAYOUTS[name]().inputs:
            raise ValueError("another number of inputs")
        return cls(space, name, perceptron)

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,).

        Raises:
            ArchError: a row outside the space, or a resolution that the predictor does not know.
        """
        result = np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            result[at : at + CHUNK] = self.perceptron(self._inputs(genes[at : at + CHUNK]))
        return result

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies, and the error reported in the paper for each, (n,) each."""
        return self.mean(genes), np.full(len(genes), RMSE)

    def structure(self) -> None:
        """None: a perceptron is not a quadratic function."""

    def description(self) -> dict[str, Any]:
        """The name of the published predictor, as JSON values."""
        return {"model": "published", "layout": self.name}

    def arrays(self) -> dict[str, Array]:
        """The layers' weights and biases, numbered."""
        perceptron = self.perceptron
        weights = {f"{i}.weight": array for i, array in enumerate(perceptron.weights)}
        return weights | {f"{i}.bias": array for i, array in enumerate(perceptron.biases)}

    @cached_property
    def _layout(self) -> _Layout:
        return LAYOUTS[self.name]()

    @cached_property
    def _tables(self) -> tuple[Array, Array, Array]:
        """The gene columns that the predictor reads, each one's start in the table, and the table from genes + 1 to inputs.

        The index after the last input stands for absent blocks, -1 for resolutions unknown to the predictor.
        """
        layout = self._layout
        read, starts, table = [], [], list[int]()
        for c, column in enumerate(self.space.columns):
            if column.kind == "resolution":
                inputs = [layout.resolution_input(int(r)) for r in column.choices]
            else:
                keys = [(column.kind, column.stage, column.block, value) for value in column.choices]
                inputs = [layout.choices[key] for key in keys if key in layout.choices]
            if inputs:
                read.append(c)
                starts.append(len(table) + 1)
                table += [layout.inputs, *inputs]
        return np.array(read), np.array(starts), np.array(table)

    def _inputs(self, genes: Genes) -> Array:
        """(n, inputs) float32."""
        read, starts, table = self._tables
        at = table[genes[:, read] + starts]
        if (at[:, 0] < 0).any():
            resolution = self.space.resolutions[genes[at[:, 0] < 0, 0][0]]
            known = self._layout.resolutions
            raise ArchError(
                f"resolution {resolution} is not known to this predictor: it knows {', '.join(map(str, known))} and those up to "
                f"{STEP - 1} above the last: restrict the space to resolutions from {known[0]} to {known[-1] + STEP - 1}"
            )
        x = np.zeros((len(genes), self._layout.inputs + 1), np.float32)
        x[np.arange(len(genes))[:, None], at] = 1
        return x[:, :-1]
