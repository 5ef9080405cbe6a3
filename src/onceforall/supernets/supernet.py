"""`Supernet`: the shared weights of every network in a space.

Its layers are those of the space's largest plan; `supernet(x, arch)` runs the plan of any architecture on the first
channels and the inner kernels of these weights. A family needs no code here: everything in its plans is elastic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..arch import Arch
from ..errors import StatisticsError
from ..nn.calls import Mode, Step, channels_last_, cut_weight, is_norm, prepared, put_weight, with_drop_path, with_dropout
from ..nn.layers import ElasticNorm, some_images
from ..nn.operations import OPERATIONS
from ..nn.static import build, put
from ..ops import Call, Norm
from ..plan import Plan, Segment
from ..space import Space


class Supernet(nn.Module):
    """An elastic network: the shared weights of all networks in a space.

    Args:
        space: the space of its sub-networks.
        num_classes: outputs of the classifier; by default `Space.classes`.

    Example:
        >>> supernet = Supernet(space, num_classes=10)
        >>> logits = supernet(images, arch)  # (batch, 10); which sub-network runs is an argument, never state
        >>> network = supernet.extract(arch)  # a plain torch module with its own copy of the weights
    """

    def __init__(self, space: Space, num_classes: int | None = None) -> None:
        super().__init__()
        self.space = space
        self.num_classes = space.classes if num_classes is None else num_classes
        plan = space.lower(space.largest(), self.num_classes)
        names = []
        for segment in plan.segments:
            for op in segment.ops:
                name = f"{segment.name}.{op.name}"
                if isinstance(op, Call):
                    for weight in op.tensors:
                        put_weight(self, weight, op.target)
                elif op.weights:
                    elastic = OPERATIONS[type(op)].elastic
                    assert elastic is not None, f"{type(op).__name__} has weights, and no elastic layer in its row"
                    put(self, name, elastic(op))
                    names.append(name)
        if space.family == "graph":
            channels_last_(self, plan)
        else:
            self.to(memory_format=torch.channels_last)
        self._layers: dict[str, Any] = {name: self.get_submodule(name) for name in names}
        self._own = _Tensors(self)
        self._statistics = _names_of_statistics(plan)
        self._steps: dict[tuple[int, float, bool], tuple[Segment, list[tuple[str, Step]]]] = {}

    def forward(self, x: Tensor, arch: Arch, *, dropout: float = 0.0, drop_path: float = 0.0, sync_norm: bool = False) -> Tensor:
        """Logits (batch, num_classes) of the sub-network for images (batch, channels, height, width).

        Batch norm uses the statistics of the batch in train mode, and the running statistics in eval mode. Height and width need
        not match `arch.resolution`, which is only the size that the network is meant for.

        Args:
            dropout: rate before the classifier, in train mode. In a network read from a model, it only replaces a rate of 0.
            drop_path: rate at which the last residual branch is dropped for an image, in train mode; rates rise linearly to this
                value from the first branch on. In a network read from a model, branches with rates of their own keep them.
            sync_norm: in train mode, compute batch statistics over all processes of torch.distributed's default group.

        Raises:
            ArchError: the architecture lies outside the space.
            StatisticsError: in eval mode, if the running statistics were dropped by `forget_statistics`.
        """
        if not self.training:
            self._require_statistics()
        x = x.contiguous(memory_format=torch.channels_last)
        segments = self.space.lower(arch, self.num_classes).segments
        residual = [segment.name for segment in segments if segment.branches] if drop_path and self.training else []
        rates = {name: drop_path * place / len(residual) for place, name in enumerate(residual, 1)}
        plain = Mode(self.training, sync_norm, dropout=dropout)
        for segment in segments:
            mode = replace(plain, drop_path=rates[segment.name]) if segment.name in rates else plain
            if self.space.family != "graph":
                x = self._run(segment, x, mode)
                continue
            values = {"in": x}
            rate = dropout if self.training and segment is segments[-1] else 0.0
            for name, step in self._prepared(segment, rate, drops=mode.drop_path > 0):
                x = values[name] = step(values, self._own, mode)
        return x

    def extract(self, arch: Arch, *, dropout: float = 0.0) -> fx.GraphModule:
        """Extract a sub-network as a plain torch module with its own copy of the weights and running statistics.

        The module is in channels-last format, with the supernet's mode (train or eval), device and dtype. Its running statistics
        are the supernet's: recalibrate them with `onceforall.calibrate.recalibrate` before evaluating a trained network.

        Raises:
            ArchError: the architecture lies outside the space.
        """
        return self.cut(self.space.lower(arch, self.num_classes), dropout=dropout)

    def at(self, arch: Arch) -> "Subnet":
        """A sub-network as a module that shares the supernet's weights, for use in any training loop or as part of any model.

        Raises:
            ArchError: the architecture lies outside the space.
        """
        self.space.check(arch)
        return Subnet(self, arch)

    def cut(self, plan: Plan, *, dropout: float = 0.0) -> fx.GraphModule:
        """Like `extract`, for a plan or a piece of one, so that segments can be run and shared separately."""
        like = next((t for t in chain(self.parameters(), self.buffers()) if t.is_floating_point()), torch.zeros(()))
        if dropout and any(isinstance(op, Call) for op in plan.segments[-1].ops):
            plan = Plan((*plan.segments[:-1], with_dropout(plan.segments[-1], dropout)))
        with torch.device("meta"):  # skips the initialization, which is overwritten below
            network = build(plan, dropout=dropout)
        own: dict[str, Tensor] = {}
        with torch.no_grad():
            for segment in plan.segments:
                for op in segment.ops:
                    name = f"{segment.name}.{op.name}"
                    if isinstance(op, Call):
                        own |= {weight.name: cut_weight(weight, self._own) for weight in op.tensors}
                    elif name in self._layers:
                        own |= {f"{name}.{key}": value for key, value in self._layers[name].cut(op).items()}
            _allocate(network, like)
            for name, tensor in network.state_dict().items():
                tensor.copy_(own[name]) if name in own else tensor.zero_()  # only num_batches_tracked is missing in the supernet
        return network.train(self.training)

    def forget_statistics(self) -> None:
        """Drop the running statistics of every batch norm, since the weights will change. Call it before your training loop.

        From then on, eval mode raises an error, and extracted networks return NaN in eval mode until recalibrated.
        """
        for name in self._statistics:
            self._own[name].fill_(torch.nan)

    def norms(self) -> list[ElasticNorm]:
        """All elastic batch norms in network order; none in a network that was read from a model."""
        return [layer for layer in self._layers.values() if isinstance(layer, ElasticNorm)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_steps": {}}  # local functions cannot be pickled, and are quickly recreated

    def _prepared(self, segment: Segment, dropout: float, *, drops: bool) -> list[tuple[str, Step]]:
        """The steps that compute a segment's calls, by name. `drops`: drop residual branches at the mode's rate."""
        key = id(segment), dropout, drops
        if key not in self._steps:
            made = with_dropout(segment, dropout) if dropout else segment
            ops = (with_drop_path(made) if drops else made).ops
            self._steps[key] = segment, [(op.name, prepared(op)) for op in ops if isinstance(op, Call)]
        return self._steps[key][1]

    @property
    def forgotten(self) -> bool:
        """Whether there are batch norms whose running statistics were dropped."""
        return bool(self._statistics) and bool(self._own[self._statistics[0]][0].isnan())

    def _require_statistics(self) -> None:
        if self.forgotten:
            raise StatisticsError(
                "this supernet was trained and has no BatchNorm statistics, so it cannot run in eval mode: "
                "use onceforall.calibrate.recalibrate(supernet.extract(arch), images)"
            )

    def _run(self, segment: Segment, x: Tensor, mode: Mode) -> Tensor:
        """Run one segment: (batch, *segment.in_shape) -> (batch, *segment.out_shape)."""
        values = {"in": x}
        for op in segment.ops:
            inputs = [values[source] for source in op.inputs]
            if mode.drop_path and op.name in segment.branches:
                branch = segment.branches[op.name]
                inputs[branch] = some_images(inputs[branch], mode.drop_path)
            layer = self._layers.get(f"{segment.name}.{op.name}")
            if layer is None:
                run = OPERATIONS[type(op)].run
                assert run is not None
                x = run(op, inputs, mode, op.inputs[0] in segment.read_once)
            elif mode.sync_norm and mode.training and isinstance(op, Norm):
                x = layer.synchronized(inputs[0], op)
            else:
                x = layer(*inputs, op)
            values[op.name] = x
        return x


def _allocate(network: nn.Module, like: Tensor) -> None:
    """Allocate memory for meta tensors on the device of `like`, with its dtype; shared tensors stay shared.

    Like `Module.to_empty`, which would import sympy for half a second.
    """
    made: dict[int, Tensor] = {}
    for module in network.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        for name, meta in [*own, *module.named_buffers(recurse=False, remove_duplicate=False)]:
            if id(meta) not in made:
                kind = like.dtype if meta.is_floating_point() else meta.dtype
                tensor = torch.empty_strided(meta.shape, meta.stride(), dtype=kind, device=like.device)
                made[id(meta)] = nn.Parameter(tensor, meta.requires_grad) if isinstance(meta, nn.Parameter) else tensor
            setattr(module, name, made[id(meta)])


def _names_of_statistics(plan: Plan) -> list[str]:
    """Names of the running statistics of all batch norms."""
    found: dict[str, None] = {}
    for segment in plan.segments:
        for op in segment.ops:
            if isinstance(op, Call):
                found |= {weight.name: None for weight in op.args[3:5]} if is_norm(op) else {}
            else:
                found |= {f"{segment.name}.{op.name}.{name}": None for name in op.statistics}
    return list(found)


class _Tensors(Mapping[str, Tensor]):
    """A supernet's current parameters and buffers by name, even if `torch.func.functional_call` replaces them."""

    def __init__(self, root: nn.Module) -> None:
        names = [name for name, _ in (*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False))]
        self._places = {name: (root.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names}

    def __getitem__(self, name: str) -> Tensor:
        module, leaf = self._places[name]
        return getattr(module, leaf)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Subnet(nn.Module):
    """One sub-network on the weights of its supernet, see `Supernet.at`. It shares the supernet's parameters and mode."""

    def __init__(self, supernet: Supernet, arch: Arch) -> None:
        super().__init__()
        self.supernet = supernet
        self.arch = arch

    def forward(self, x: Tensor) -> Any:
        return self.supernet(x, self.arch)
