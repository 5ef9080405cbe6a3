"""Find the position embeddings of models for one image size, so that they can be interpolated for other sizes.

These are tensors that are added to values of the same size that are computed from the images. To trace other image sizes, each is
replaced by a single number, which can be added to any tensor; the other operand then shows the size that it needs.
"""

from collections import Counter
from collections.abc import Sequence
from math import isqrt

from torch import nn

from ..errors import ModelError
from ..graph import Own, Size, Value
from ..ops import Grid, ancestors, leaves
from ..resolutions import Resolution, ascending
from .exporting import ADVICE, Fit, first_convolution, stored_sizes
from .trace import Step, Trace, trace

OPTIONS = {"torchvision": (False, True)}  # antialias and align_corners of a package's own interpolation
TIMM_OPTIONS = (True, False)  # for all other packages


def fitted(model: nn.Module, resolutions: Sequence[Resolution], channels: int | None) -> Trace:
    """A trace at these resolutions, or more of them, with interpolated position embeddings if necessary.

    By default, `channels` is 3, or the first convolution's if the model cannot be read with 3.

    Raises:
        ModelError: see `trace`.
    """
    if channels is None:
        name = first_convolution(model)
        conv = None if name is None else model.get_submodule(name)
        first = conv.in_channels if isinstance(conv, nn.Conv2d) else 3
        try:
            return fitted(model, resolutions, 3)
        except ModelError as error:
            if first == 3:
                raise
            try:
                return fitted(model, resolutions, first)
            except ModelError:
                if f"to have {first} channels, but got 3" in str(error):  # torch's wording
                    raise
            raise
    try:
        return trace(model, resolutions, channels=channels)
    except ModelError as error:
        text, advice, _ = str(error).partition(ADVICE)
        own = _at_its_size(model, resolutions, channels) if advice else None
        if own is None:
            raise
        try:
            found = _interpolated(model, own, resolutions)
            why = "has no position embedding that could be interpolated for others"
        except ModelError as other:  # for example if an image is smaller than a patch
            reason = str(other).partition(ADVICE)[0]
            found, why = None, f"with its position embeddings interpolated: {reason}; give other resolutions"
        if found is None:
            raise ModelError(f"{text}; it can be read at {own.resolutions[0]} pixels, and {why}") from error
        return found


def _at_its_size(model: nn.Module, resolutions: Sequence[Resolution], channels: int) -> Trace | None:
    """A trace at a size stored in the model's modules, else at the largest of the resolutions at which it can be read."""
    given = ascending(resolutions)[::-1] if len(resolutions) > 1 else ()  # a single resolution was already tried
    for pixels in dict.fromkeys([*stored_sizes(model), *given]):
        try:
            return trace(model, (pixels,), channels=channels)
        except ModelError:
            pass
    return None


def _interpolated(model: nn.Module, own: Trace, resolutions: Sequence[Resolution]) -> Trace | None:
    """A trace with interpolated position embeddings; None if other resolutions fail for another reason.

    Raises:
        ModelError: even with interpolation, the model cannot be read at all resolutions.
    """
    added = _added(own)
    (pixels,) = own.resolutions
    sizes = ascending({*resolutions, pixels})
    found = trace(model, sizes, Fit(pixels, frozenset(added)), own.channels) if added else None
    if found is None or [(step.name, step.op) for step in found.steps] != [(step.name, step.op) for step in own.steps]:
        return None
    steps = {step.name: step for step in found.steps}
    for name, uses in added.items():
        for use in uses:
            grids = _grids(found, steps, steps[use], name, sizes.index(pixels), model)
            if grids is None or found.grids.setdefault(name, grids) != grids:
                return None
    found.grids = {name: grids for name, grids in found.grids.items() if grids}
    return found if found.grids else None


def _added(own: Trace) -> dict[str, list[str]]:
    """Tensors that are only added to values of the same size per image, with the steps that add them."""
    uses = Counter(leaf.name for step in own.steps for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Own))
    uses.update(leaf.name for leaf in leaves(own.output) if isinstance(leaf, Own))
    found: dict[str, list[str]] = {}
    for step in own.steps:
        match step:
            case Step(op="add.Tensor", args=(Value(), Own(name)) | (Own(name), Value()), kwargs={}):
                shape, out = tuple(own.tensors[name].shape), step.shapes[0]
                if len(out) > 2 and shape == (1, *out[1:]) and step.sizes[0][0] == Size(((1, -1),), batch=True):
                    found.setdefault(name, []).append(step.name)
    return {name: steps for name, steps in found.items() if len(steps) == uses[name]}


def _grids(found: Trace, steps: dict[str, Step], use: Step, name: str, own: int, model: nn.Module) -> tuple[Grid, ...] | None:
    """How an added tensor is interpolated at each resolution; () if its size is the same everywhere, None if unknown.

    Args:
        found: the trace at several resolutions.
        steps: its steps by name.
        use: the step that adds the tensor.
        name: name of the tensor.
        own: index of the resolution at which the tensor is not interpolated.
        model: the tensor's model.
    """
    count = len(found.resolutions)
    dims = tuple(dim for dim, size in enumerate(use.sizes[0]) if len(set(_numbers(size, count))) > 1)
    if not dims:
        return ()
    flat, prefix, maps = len(dims) == 1, 0, None
    if flat and len(use.sizes[0]) == 3:
        value = next(arg for arg in use.args if isinstance(arg, Value))
        last = _last_piece(steps, value, dims[0])
        tokens = _numbers(steps[last.name].sizes[0][dims[0]], count) if last is not None and last.name in steps else []
        rest = {a - b for a, b in zip(_numbers(use.sizes[0][dims[0]], count), tokens, strict=False)}
        if len(rest) == 1 and last is not None:
            (prefix,) = rest
            maps = _maps(steps, last, tokens)
    elif len(dims) == 2 and dims[1] == dims[0] + 1 and len(use.sizes[0]) == 4:
        value = next(arg for arg in use.args if isinstance(arg, Value))
        sides = list(zip(*(_numbers(use.sizes[0][dim], count) for dim in dims), strict=True))
        maps = sides if _maps(steps, value, [rows * columns for rows, columns in sides]) == sides else None
    if maps is None:
        return None
    owner = type(model.get_submodule(name.rpartition(".")[0])).__module__.partition(".")[0]
    how = OPTIONS.get(owner, TIMM_OPTIONS)
    return tuple(Grid(dims[0], flat, prefix, maps[own], size, *how) for size in maps)


def _numbers(size: Size, count: int) -> list[int]:
    return [size.of((), i) for i in range(count)]


def _last_piece(steps: dict[str, Step], value: Value, dim: int) -> Value | None:
    """The last part of a value concatenated along the tokens, or the whole value; None if it does not depend on the images."""
    step = steps.get(value.name)
    if step is None or step.kind not in ("cat", "concat", "concatenate"):
        return value
    along = step.argument(1, "dim", 0)
    last = step.args[0][-1] if along in (dim, dim - len(step.shapes[0])) else value
    return last if isinstance(last, Value) else None


def _maps(steps: dict[str, Step], tokens: Value, numbers: Sequence[int]) -> list[tuple[int, int]] | None:
    """Rows and columns of tokens at each resolution, from the preceding convolution or as a square; None if they form no map.

    If a value in between has more than four dimensions, the tokens may not be in row-major order.
    """
    above = ancestors([tokens.name], lambda name: [read for read in steps[name].reads if read in steps])
    for step in reversed(steps.values()):
        if step.name in above and step.kind == "conv2d":
            rows, columns = (_numbers(size, len(numbers)) for size in step.sizes[0][2:])
            if [a * b for a, b in zip(rows, columns, strict=True)] == list(numbers):
                later = list(steps)[list(steps).index(step.name) :]
                in_order = all(len(steps[name].shapes[0]) <= 4 for name in later if name in above)
                return list(zip(rows, columns, strict=True)) if in_order else None
    sides = [isqrt(number) for number in numbers]
    return [(side, side) for side in sides] if [side**2 for side in sides] == list(numbers) else None
