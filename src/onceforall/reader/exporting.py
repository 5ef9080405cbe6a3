"""Export a copy of a model with `torch.export`, on the meta device or the processor, for images of one size."""

import copy
import io
import logging
import operator
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import config
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ..common.packages import quiet_packages
from ..errors import ModelError
from ..resolutions import Resolution, height_width, of_sides

ALIASES = {"dropout", "feature_dropout", "alpha_dropout"}  # operations that return their argument in eval mode
QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized", "torch.nn.intrinsic.quantized")
DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "DataDependentOutputException")
ADVICE = "; give a module that takes one batch"
SIZES = ("img_size", "image_size")  # attributes of modules that are made for one image size


@dataclass(frozen=True)
class Fit:
    """Changes that make a copy of a model for images of one size accept other sizes.

    Args:
        pixels: the model's size; its modules' `img_size` or `image_size` is scaled with the images. A single number for both sides
            is not scaled if the sides change by different factors.
        single: names of tensors to replace by a single number, which can be added to any number of tokens.
    """

    pixels: Resolution
    single: frozenset[str]

    def resize(self, model: nn.Module, pixels: Resolution) -> None:
        """Scale the image size that the modules store."""
        (height, width), (tall, wide) = height_width(self.pixels), height_width(pixels)
        for module in model.modules():
            for name in SIZES:
                match vars(module).get(name):
                    case (int(), int()) as both if both[0] * tall % height == both[1] * wide % width == 0:
                        setattr(module, name, type(both)((both[0] * tall // height, both[1] * wide // width)))
                    case int() as size if tall * width == wide * height and size * tall % height == 0:
                        setattr(module, name, size * tall // height)


def stored_sizes(model: nn.Module) -> list[Resolution]:
    """The distinct image sizes stored in modules, in module order."""
    found: list[Resolution] = []
    for module in model.modules():
        for name in SIZES:
            match vars(module).get(name):
                case (int(), int()) as both:
                    found.append(of_sides(*both))
                case int() as size:
                    found.append(size)
    return list(dict.fromkeys(found))


def mixed_types(model: nn.Module) -> set[torch.dtype]:
    """Floating-point types of a model's parameters, if there are several."""
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return found if len(found) > 1 else set()


def dtype_of(model: nn.Module) -> torch.dtype:
    """The floating-point type of the model's first tensor that has one."""
    return next((t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.float32)


def limits(dtype: torch.dtype) -> tuple[float, ...]:
    """Constants of a type that a model may use in its computation."""
    info = torch.finfo(dtype)
    return info.max, info.eps, info.tiny, info.smallest_normal


def copied(model: nn.Module, device: torch.device, fit: Fit | None = None) -> nn.Module:
    """Copy a model in eval mode, on the meta device without its values. The model itself is not changed."""
    for name, module in model.named_modules():
        which = f"the model's {name}" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{which} is a TorchScript module, which cannot be read: give the nn.Module that it was made from")
        if type(module).__module__.startswith(QUANTIZED) and type(module).__name__ != "FloatFunctional":  # not quantized itself
            raise ModelError(
                f"{which} is a quantized {type(module).__name__}, which cannot be read: give the network from before quantization "
                "(specialized networks can be exported in int8)"
            )
        if any(map(nn.parameter.is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False)))):
            raise ModelError(f"{which} is a {type(module).__name__} that has never run: run the model once on a batch of images")
    memo: dict[int, Any] = {}
    try:
        for module in model.modules():
            kept = {name: value for name, value in vars(module).items() if name not in ("_parameters", "_buffers")}
            for value in pytree.tree_leaves(kept):  # such as features collected by a hook
                if isinstance(value, Tensor):
                    memo[id(value)] = value.detach().to(device, copy=True)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            like = tensor.new_empty([1] * tensor.ndim) if fit and name in fit.single else tensor
            made = torch.empty_like(like, device=device, memory_format=torch.contiguous_format)
            memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
        copied_model = copy.deepcopy(model, memo).eval()
        copied_model.register_forward_hook(lambda module, images, output: _opened(output))
        return copied_model
    except Exception as error:  # the model may contain anything
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise ModelError(f"the model cannot be copied: {why}: give a model that copy.deepcopy can copy") from None


def _opened(output: Any) -> Any:
    """A model's output with dataclasses as mappings."""
    if is_dataclass(output) and not isinstance(output, type | Mapping):
        return {each.name: _opened(getattr(output, each.name)) for each in fields(output)}
    if type(output) in (tuple, list):
        return type(output)(map(_opened, output))
    return {key: _opened(item) for key, item in output.items()} if type(output) is dict else output


@contextmanager
def _silence() -> Iterator[None]:
    """Silence torch, which prints pages about what it cannot export; our error is one line."""
    before, traced = logging.root.manager.disable, vars(config).get("do_not_emit_stack_traces", False)
    logging.disable(logging.CRITICAL)
    config.do_not_emit_stack_traces = True  # recording them took up to a quarter of the time, and nobody reads them
    try:
        with quiet_packages(), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        config.do_not_emit_stack_traces = traced


def first_convolution(model: nn.Module) -> str | None:
    """Name of the first convolution in module order, which usually takes the images."""
    return next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)


def _images(model: nn.Module, pixels: Resolution, batch: int, channels: int) -> Tensor:
    like = next(iter((*model.parameters(), *model.buffers())), torch.zeros(()))
    return torch.empty((batch, channels, *height_width(pixels)), device=like.device, dtype=dtype_of(model))


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(model: nn.Module, pixels: Resolution, batch: int, channels: int) -> int | None:
    """Number of operations that a model on the meta device runs for this batch size; None if it fails."""
    try:
        with _silence(), torch.no_grad(), torch.compiler.set_stance("force_eager"), _Counting() as counting:
            model(_images(model, pixels, batch, channels))
            count: int = counting.count
    except Exception:  # the model may raise anything
        return None
    return count


def own_gradients(model: nn.Module, pixels: Resolution, batch: int, channels: int) -> list[str]:
    """The model's own classes of torch.autograd.Function, whose backward torch.export does not see."""
    try:
        with _silence(), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            results = model(_images(model, pixels, batch, channels).requires_grad_())
    except Exception:  # the model may raise anything
        return []
    waiting = [tensor.grad_fn for tensor in pytree.tree_leaves(results) if isinstance(tensor, Tensor)]
    seen, found = set(waiting), list[Any]()
    for function in waiting:
        if isinstance(function, torch.autograd.function.BackwardCFunction):
            found.append(type(function)._forward_cls)
        more = {other for other, _ in function.next_functions} - seen if function else set()
        seen |= more
        waiting += more
    return sorted({own.__name__ for own in found if own.__module__.partition(".")[0] != "torch"})


def export(model: nn.Module, pixels: Resolution, batch: int, channels: int) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Export a model for this batch size; also return notes on what is lost.

    Raises:
        ModelError: torch.export fails.
    """
    height, width = height_width(pixels)
    images = _images(model, pixels, batch, channels)
    try:
        with _silence(), torch.no_grad():
            exported = torch.export.export(model, (images,), strict=False)
            if not _aliased_writes(exported):
                return exported, ()
            return exported.run_decompositions({}), ("the model: dropout, since it writes to parts of tensors",)
    except Exception as error:  # torch.export has many error classes, and the model may raise anything
        where = _module_of(error)
        cannot = f"torch.export cannot read {type(model).__name__} with images of {pixels} pixels{where}"
        if type(error).__name__ in DATA_DEPENDENT:
            raise ModelError(
                f"{cannot}: its control flow depends on pixel values, as an if or a loop over a tensor does: decide by shapes, or "
                "compute both branches and select with torch.where"
            ) from error
        counted = f" ({batch} is the batch size that it was tried with)" if str(batch) in _first_line(error) else ""
        raise ModelError(
            f"{cannot}: {type(error).__name__}: {_first_line(error)}{counted}{ADVICE} "
            f"of images (n, {channels}, {height}, {width}) with any pixel values"
        ) from error


def _aliased_writes(exported: torch.export.ExportedProgram) -> bool:
    """Whether a tensor is modified while another view of its memory is read later, so that names do not identify contents."""
    family: dict[fx.Node, fx.Node] = {}

    def root(node: fx.Node) -> fx.Node:
        while node in family:
            node = family[node]
        return node

    nodes = list(exported.graph.nodes)
    written: list[tuple[int, fx.Node]] = []
    for i, node in enumerate(nodes):
        schema = node.target._schema if isinstance(node.target, torch._ops.OpOverload) else None
        sources = [arg for arg in node.args if isinstance(arg, fx.Node)]
        same = node.target is operator.getitem or (schema is not None and schema.name.split("::")[1] in ALIASES)
        if schema is not None and schema.is_mutable and sources:
            written.append((i, sources[0]))
        same = same or (schema is not None and any(result.alias_info is not None for result in schema.returns))
        if sources and same and root(node) is not root(sources[0]):
            family[root(node)] = root(sources[0])
    place = {node: i for i, node in enumerate(nodes)}
    for i, target in written:
        for other in nodes[:i]:
            if other is not target and root(other) is root(target) and any(place[user] > i for user in other.users):
                return True
    return False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else "no reason given"


def _module_of(error: BaseException) -> str:
    """The innermost line of the model's own code in an error's traceback."""
    found, at = "", error.__traceback__
    while at is not None:
        frame = at.tb_frame
        code, file = frame.f_code, os.path.basename(frame.f_code.co_filename)
        own = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None  # usually named self
        in_torch = str(frame.f_globals.get("__name__")).partition(".")[0] == "torch"  # such as Module.__call__
        if isinstance(own, nn.Module) and not in_torch:
            found = f" ({type(own).__name__}, line {at.tb_lineno} of {code.co_name} in {file})"
        at = at.tb_next
    return found


def value_of(model: nn.Module, target: str, constants: Mapping[str, Any]) -> Tensor | None:
    """A constant with its values, which the model has if the copy is on the meta device; None if they are unknown."""
    tensor = constants[target]
    if tensor.is_meta:
        path, _, leaf = target.rpartition(".")
        owner = dict(model.named_modules()).get(path)
        tensor = None if owner is None else vars(owner).get(leaf)
    return tensor.detach() if isinstance(tensor, Tensor) else None


def memory_of(tensor: Tensor) -> tuple[Any, ...]:
    """Identifies a tensor's memory and how it is read."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def spelled(text: str, ranks: Sequence[int]) -> str:
    """The equation of an einsum with its ellipses replaced by letters, and an explicit result."""
    terms, arrow, result = text.replace(" ", "").partition("->")
    names = terms.split(",")
    free = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in text]
    most = max(rank - len(name.replace("...", "")) if "." in name else 0 for name, rank in zip(names, ranks, strict=True))
    dots = "".join(free[:most])
    full = [name.replace("...", dots[len(name) - 3 + most - rank :]) for name, rank in zip(names, ranks, strict=True)]
    once = [letter for letter in sorted(set(terms) - set(",.")) if terms.count(letter) == 1]
    return f"{','.join(full)}->{result.replace('...', dots) if arrow else dots + ''.join(once)}"


def module_of(node: fx.Node) -> str:
    """Path of the innermost module that calls the operation."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""
