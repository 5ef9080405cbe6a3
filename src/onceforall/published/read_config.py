"""Convert the original's net.config, which lists every layer of a network, to a `Plan`.

Both spellings are supported: `MobileInvertedResidualBlock` with `mobile_inverted_conv` in old files, `ResidualBlock` with `conv` in
new ones. Anything that a plan cannot express raises an error and is never ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ArchError
from ..ops import Activation, Add, Conv, Dropout, Flatten, GlobalPool, Linear, Op, Pool, Shape
from ..plan import Plan, Segment
from ..spaces.blocks import bottleneck_block, conv_norm_act, make_divisible, mobile_block, without_shortcut
from .config_node import ConfigNode
from .config_node import node as as_node
from .names import CLASSES

MOST_PARAMS = 2**28


@dataclass
class _Chain:
    """Collects segments, each of which reads the result of the previous one."""

    shape: Shape
    segments: list[Segment]
    eps: float
    stage: int = -1
    block: int = 0

    def add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.shape = segment.out_shape

    def add_ops(self, name: str, ops: Sequence[Op]) -> None:
        self.add(Segment(name, self.shape, tuple(ops)))

    def next_name(self, new_stage: bool) -> str:
        """Name of the next block; a stage starts with a block that changes the shape."""
        if new_stage:
            self.stage, self.block = self.stage + 1, 0
        self.block += 1
        return f"stages.{self.stage}.{self.block - 1}"


def plan_from_config(config: Any, resolution: int) -> Plan:
    """The plan of the network described by a net.config.

    Segments are named as in our spaces, "stages.S.I"; a stage starts at each block without a shortcut.

    Raises:
        ArchError: a part is missing, malformed, does not fit the previous one, or cannot be expressed in a plan; names it.
    """
    if not isinstance(resolution, int) or isinstance(resolution, bool) or not 8 <= resolution <= 4096:
        raise ArchError(f"the resolution is {resolution!r}: it must be a whole number of pixels from 8 to 4096")
    root = as_node(config, "net.config")
    name = root.kind(*CLASSES.values())
    default = {"eps": 1e-3 if name == "ProxylessNASNets" else 1e-5}
    bn = as_node(root.fields.get("bn", default), "net.config.bn")
    bn.require(ws_eps=[None])
    chain = _Chain((3, resolution, resolution), [], bn.number("eps"))
    (_resnet if name == "ResNets" else _mobile)(root, chain)
    plan = Plan(tuple(chain.segments))
    if plan.params > MOST_PARAMS:
        raise ArchError(f"net.config describes {plan.params:,} parameters: more than {MOST_PARAMS:,} are not built")
    return plan


def _mobile(root: ConfigNode, chain: _Chain) -> None:
    root.known("name", "bn", "first_conv", "blocks", "final_expand_layer", "feature_mix_layer", "classifier")
    chain.add_ops("stem", _conv(root.child("first_conv"), "first", "in", chain.shape, chain.eps))
    for i, node in enumerate(root.items("blocks")):
        _mobile_block(node, chain, fixed=i == 0)
    ops: list[Op] = []
    last, shape = "in", chain.shape
    if root.fields["name"] == "MobileNetV3":
        ops += _conv(root.child("final_expand_layer"), "expand", last, shape, chain.eps)
        ops.append(GlobalPool("pool", (ops[-1].name,), (ops[-1].shape[0], 1, 1)))
        ops += _conv(root.child("feature_mix_layer"), "mix", "pool", ops[-1].shape, chain.eps)
        last, shape = ops[-1].name, ops[-1].shape
    else:
        if root.fields.get("feature_mix_layer") is not None:
            ops += _conv(root.child("feature_mix_layer"), "mix", last, shape, chain.eps)
            last, shape = ops[-1].name, ops[-1].shape
        ops.append(GlobalPool("pool", (last,), (shape[0], 1, 1)))
        last = "pool"
    chain.add_ops("head", [*ops, *_classifier(root.child("classifier"), last, shape[0])])


def _mobile_block(block: ConfigNode, chain: _Chain, *, fixed: bool) -> None:
    block.kind("MobileInvertedResidualBlock", "ResidualBlock")
    block.known("conv", "mobile_inverted_conv", "shortcut")
    node = block.child("mobile_inverted_conv", "conv")
    node.kind("MBInvertedConvLayer", "MBConvLayer")
    node.known(
        "in_channels", "out_channels", "kernel_size", "stride", "expand_ratio", "mid_channels", "act_func", "use_se", "groups"
    )
    node.require(groups=[None])
    channels, stride, ratio = node.whole("out_channels"), node.whole("stride"), node.number("expand_ratio")
    _require_input(node, chain.shape)
    shortcut = _has_shortcut(block, chain.shape, channels, stride)
    middle = round(chain.shape[0] * ratio) if node.fields.get("mid_channels") is None else node.whole("mid_channels")
    activation = node.activation()
    if activation is None or middle < 1 or (middle == chain.shape[0]) != (ratio == 1):
        raise ArchError(
            f"{node.where}: expand_ratio {ratio}, {middle} middle channels and act_func {activation} do not go together"
        )
    made = mobile_block(
        "fixed" if fixed else chain.next_name(not shortcut),
        chain.shape,
        channels,
        middle=middle,
        kernel=_odd(node),
        stride=stride,
        activation=activation,
        squeeze_excite=node.flag("use_se", False),
        eps=chain.eps,
    )
    chain.add(made if shortcut else without_shortcut(made))


def _resnet(root: ConfigNode, chain: _Chain) -> None:
    root.known("name", "bn", "input_stem", "blocks", "classifier")
    stem = root.items("input_stem")
    for i, node in enumerate(stem):
        if node.fields.get("name") == "ResidualBlock":
            node.known("conv", "shortcut")
            ops = _conv(node.child("conv"), "residual", "in", chain.shape, chain.eps)
            if not _has_shortcut(node, chain.shape, ops[-1].shape[0], 1):
                raise ArchError(f"{node.where} has no shortcut: only a convolution with a shortcut can be read here")
            chain.add_ops(chain.next_name(False), [*ops, Add("add", ("in", ops[-1].name), ops[-1].shape)])
            continue
        last = i == len(stem) - 1
        ops = _conv(node, "last" if last else "first", "in", chain.shape, chain.eps)
        if last:
            pooled = (ops[-1].shape[0], *(-(-side // 2) for side in ops[-1].shape[1:]))
            ops.append(Pool("pool", (ops[-1].name,), pooled, "max", 3, 2))
        chain.add_ops(chain.next_name(True), ops)
    for node in root.items("blocks"):
        _bottleneck(node, chain)
    features = chain.shape[0]
    pool = GlobalPool("pool", ("in",), (features, 1, 1))
    chain.add_ops("head", [pool, *_classifier(root.child("classifier"), "pool", features)])


def _bottleneck(node: ConfigNode, chain: _Chain) -> None:
    node.kind("ResNetBottleneckBlock")
    node.known(
        "in_channels", "out_channels", "kernel_size", "stride", "expand_ratio", "mid_channels", "act_func", "groups",
        "downsample_mode",
    )  # fmt: skip
    node.require(kernel_size=[3, [3, 3]], groups=[1, None], act_func=["relu"])
    channels, stride = node.whole("out_channels"), node.whole("stride")
    _require_input(node, chain.shape)
    middle = (
        round(channels * node.number("expand_ratio")) if node.fields.get("mid_channels") is None else node.whole("mid_channels")
    )
    project = stride > 1 or channels != chain.shape[0]
    if project:
        node.require(downsample_mode=["avgpool_conv"])
    name = chain.next_name(project)
    middle = make_divisible(middle)
    chain.add(bottleneck_block(name, chain.shape, channels, middle=middle, stride=stride, project=project, eps=chain.eps))


def _conv(node: ConfigNode, prefix: str, source: str, in_shape: Shape, eps: float) -> list[Op]:
    node.kind("ConvLayer")
    node.known(
        "kernel_size", "stride", "dilation", "groups", "bias", "has_shuffle", "use_se", "in_channels", "out_channels", "use_bn",
        "act_func", "ops_order",
    )  # fmt: skip
    node.require(
        dilation=[1], groups=[1], bias=[False], has_shuffle=[False], use_se=[False], dropout_rate=[0], ops_order=["weight_bn_act"]
    )
    _require_input(node, in_shape)
    channels, kernel, activation = node.whole("out_channels"), _odd(node), node.activation()
    stride = node.whole("stride") if "stride" in node.fields else 1
    ops = conv_norm_act(prefix, source, in_shape, channels, kernel=kernel, stride=stride, activation=activation, eps=eps)
    if node.flag("use_bn", True):
        return ops
    conv = cast(Conv, ops[0])
    return [conv] if activation is None else [conv, Activation(f"{prefix}.act", (conv.name,), conv.shape, activation)]


def _classifier(node: ConfigNode, source: str, features: int) -> list[Op]:
    node.kind("LinearLayer")
    node.known("in_features", "out_features", "bias", "use_bn", "act_func", "ops_order")
    node.require(bias=[True], use_bn=[False], act_func=[None], ops_order=["weight_bn_act"])
    if node.whole("in_features") != features:
        raise ArchError(f"{node.where}.in_features is {node.whole('in_features')}, but its input has {features} channels")
    return [
        Flatten("flatten", (source,), (features,)),
        Dropout("dropout", ("flatten",), (features,)),
        Linear("classifier", ("dropout",), (node.whole("out_features"),), features),
    ]


def _has_shortcut(block: ConfigNode, in_shape: Shape, channels: int, stride: int) -> bool:
    if block.fields.get("shortcut") is None:
        return False
    node = block.child("shortcut")
    node.kind("IdentityLayer")
    node.require(use_bn=[False], act_func=[None])
    if stride != 1 or channels != in_shape[0]:
        raise ArchError(f"{block.where}.shortcut: the block changes {in_shape[0]} channels to {channels} with stride {stride}")
    return True


def _require_input(node: ConfigNode, in_shape: Shape) -> None:
    if node.whole("in_channels") != in_shape[0]:
        raise ArchError(f"{node.where}.in_channels is {node.whole('in_channels')}, but its input has {in_shape[0]} channels")


def _odd(node: ConfigNode) -> int:
    kernel = node.whole("kernel_size")
    if kernel % 2 == 0:
        raise ArchError(f"{node.where}.kernel_size is {kernel}: only odd sizes can be read")
    return kernel
