"""`Supernet`: the shared weights of every network in a space.

The layers are those of the space's largest plan; `supernet(x, arch)` runs the plan of any architecture on the first
channels and the inner kernels of the same weights. A family needs no code here: whatever its plans use is elastic.
"""

from typing import assert_never

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .arch import Arch
from .errors import StatisticsError
from .nn.layers import ElasticConv, ElasticLinear, ElasticNorm
from .nn.static import build, put
from .ops import Activation, Add, Conv, Dropout, Flatten, GlobalPool, Linear, Norm, Pool, Scale
from .plan import Plan, Segment
from .space import Space

__all__ = ["Supernet"]

ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "h_swish": F.hardswish, "h_sigmoid": F.hardsigmoid}


class Supernet(nn.Module):
    """One elastic network.

    Args:
        space: the choices.
        num_classes: outputs of the classifier.

    Example:
        >>> supernet = Supernet(space, num_classes=10)
        >>> logits = supernet(images, arch)  # (batch, 10); which sub-network runs is an argument, never state
        >>> network = supernet.extract(arch)  # a plain torch module with its own copy of the weights
    """

    def __init__(self, space: Space, num_classes: int) -> None:
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        for segment in space.lower(space.largest(), num_classes).segments:
            for op in segment.ops:
                name = f"{segment.name}.{op.name}"
                match op:
                    case Conv():
                        put(self, name, ElasticConv(op))
                    case Norm():
                        put(self, name, ElasticNorm(op))
                    case Linear():
                        put(self, name, ElasticLinear(op))
        self.to(memory_format=torch.channels_last)
        elastic = ElasticConv | ElasticNorm | ElasticLinear
        self._layers = {name: layer for name, layer in self.named_modules() if isinstance(layer, elastic)}

    def forward(self, x: Tensor, arch: Arch, *, dropout: float = 0.0, sync_norm: bool = False) -> Tensor:
        """Logits (batch, num_classes) of the sub-network for images (batch, 3, height, width).

        In train mode batch norm uses the batch's statistics, in eval mode the running ones. Height and width need not be
        `arch.resolution`, which only says at which size the network is meant to run.

        Args:
            x: the images.
            arch: which sub-network.
            dropout: rate before the classifier, in train mode.
            sync_norm: in train mode, take batch statistics over the images of all processes of torch.distributed's default group.

        Raises:
            ArchError: the architecture lies outside the space.
            StatisticsError: eval mode, but the running statistics were dropped by `forget_statistics`.
        """
        if not self.training:
            self._require_statistics()
        x = x.contiguous(memory_format=torch.channels_last)
        for segment in self.space.lower(arch, self.num_classes).segments:
            x = self._run(segment, x, dropout, sync_norm)
        return x

    def extract(self, arch: Arch, *, dropout: float = 0.0) -> fx.GraphModule:
        """The sub-network as a plain torch module with its own copy of the weights and running statistics.

        The module is in channels-last format and has the supernet's mode (train or eval), device and type. Its running statistics
        are those of the supernet: measure them anew with `onceforall.calibrate.recalibrate` before evaluating a trained network.

        Raises:
            ArchError: the architecture lies outside the space.
        """
        return self.cut(self.space.lower(arch, self.num_classes), dropout=dropout)

    def cut(self, plan: Plan, *, dropout: float = 0.0) -> fx.GraphModule:
        """As `extract`, of a plan that the space lowers to or a piece of one: segments can be run, and shared, on their own."""
        like = next(self.parameters())
        with torch.device("meta"):  # leaves out the initialisation, which is overwritten here
            network = build(plan, dropout=dropout)
        network.to_empty(device=like.device).to(like.dtype)
        with torch.no_grad():
            for segment in plan.segments:
                for op in segment.ops:
                    name = f"{segment.name}.{op.name}"
                    if name in self._layers:
                        own = self._layers[name].cut(op)  # type: ignore[arg-type]  # each layer was made for this kind of operation
                        if isinstance(op, Norm):
                            own["num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=like.device)
                        network.get_submodule(name).load_state_dict(own)
        return network.train(self.training)

    def forget_statistics(self) -> None:
        """Drop the running statistics of every batch norm, because the weights change now. Call it before a training of your own.

        From then on eval mode refuses to run, and networks extracted give NaN in eval mode until recalibrated.
        """
        for layer in self.norms():
            layer.running_mean.fill_(torch.nan)
            layer.running_var.fill_(torch.nan)

    def norms(self) -> list[ElasticNorm]:
        """Every batch norm, in the order of the network."""
        return [layer for layer in self._layers.values() if isinstance(layer, ElasticNorm)]

    def _require_statistics(self) -> None:
        if self.norms()[0].running_mean[0].isnan():
            raise StatisticsError(
                "this supernet was trained and has no BatchNorm statistics, so eval mode is meaningless: "
                "use onceforall.calibrate.recalibrate(supernet.extract(arch), images)"
            )

    def _run(self, segment: Segment, x: Tensor, dropout: float, sync_norm: bool) -> Tensor:
        """One segment: (batch, *segment.in_shape) -> (batch, *segment.out_shape)."""
        values = {"in": x}
        for op in segment.ops:
            source = values[op.inputs[0]]
            match op:
                case Norm() if sync_norm and self.training:
                    layer = self._layers[f"{segment.name}.{op.name}"]
                    assert isinstance(layer, ElasticNorm)
                    x = layer.synchronised(source, op)
                case Conv() | Norm() | Linear():
                    x = self._layers[f"{segment.name}.{op.name}"](source, op)
                case Activation():
                    x = ACTIVATIONS[op.function](source, inplace=op.inputs[0] in segment.read_once)
                case Add():
                    x = source + values[op.inputs[1]]
                case Scale():
                    x = source * values[op.inputs[1]]
                case Pool(function="max"):
                    x = F.max_pool2d(source, op.kernel, op.stride, op.kernel // 2)
                case Pool():
                    x = F.avg_pool2d(source, op.kernel, op.stride, ceil_mode=True)
                case GlobalPool():
                    x = F.adaptive_avg_pool2d(source, 1)
                case Flatten():
                    x = source.flatten(1)
                case Dropout():
                    x = F.dropout(source, dropout, self.training)
                case _:
                    assert_never(op)
            values[op.name] = x
        return x
