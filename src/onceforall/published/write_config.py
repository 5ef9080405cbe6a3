"""Write a network as the original's net.config, in its newer spelling, so that the original's code can build it."""

from collections.abc import Iterable
from typing import Any

from ..arch import Arch
from ..errors import ArchError
from ..ops import Activation, Add, Conv, Linear, Norm, Op, Scale, Shape
from ..plan import Plan, Segment
from ..resolutions import in_pixels
from ..space import Space
from .names import CLASSES
from .read_config import plan_from_config

MOMENTUM = 0.1  # of batch norms in the original
PLAIN = {"use_bn": False, "act_func": None, "dropout_rate": 0, "ops_order": "weight_bn_act"}


def net_config(space: Space, arch: Arch, num_classes: int = 1000) -> dict[str, Any]:
    """Every layer of the network, in the form read by the original's `build_from_config` and by `published.plan_from_config`.

    Raises:
        ArchError: the architecture lies outside the space, the space's family is not one of the original's, or the space has
            something that the original lacks, such as other strides of a ResNet's stem.
    """
    if space.family not in CLASSES:
        raise ArchError(f"{space.family} is not one of the original's families: it has configurations for {', '.join(CLASSES)}")
    if isinstance(arch.resolution, str):
        raise ArchError(f"the original has no configuration for images of {in_pixels(arch.resolution)}: choose a square resolution")
    segments = {segment.name: segment for segment in space.lower(arch, num_classes).segments}
    eps = next(op.eps for segment in segments.values() for op in segment.ops if isinstance(op, Norm))
    head = segments["head"]
    (linear,) = (op for op in head.ops if isinstance(op, Linear))
    blocks = {(s, i): block for s, stage in enumerate(arch.stages) for i, block in enumerate(stage.blocks)}
    result: dict[str, Any] = {"name": CLASSES[space.family], "bn": {"momentum": MOMENTUM, "eps": eps}}
    if "stem" in segments:
        result["first_conv"] = _conv_layer(segments["stem"], "first")
        result["blocks"] = [_mobile(segments["fixed"], 1)]
        result["blocks"] += [_mobile(segments[f"stages.{s}.{i}"], block.expand_ratio) for (s, i), block in blocks.items()]
        for prefix, name in (("expand", "final_expand_layer"), ("mix", "feature_mix_layer")):
            if any(op.name == f"{prefix}.conv" for op in head.ops):
                result[name] = _conv_layer(head, prefix)
    else:
        stem = {key: segments[f"stages.{key[0]}.{key[1]}"] for key in blocks if key[0] < 2}
        result["input_stem"] = [_stem(segment) for segment in stem.values()]
        bottlenecks = [(f"stages.{s}.{i}", block.expand_ratio) for (s, i), block in blocks.items() if s >= 2]
        result["blocks"] = [_bottleneck(segments[name], ratio) for name, ratio in bottlenecks]
    result["classifier"] = {
        "name": "LinearLayer",
        "in_features": linear.in_features,
        "out_features": num_classes,
        "bias": True,
        **PLAIN,
    }
    _require_same(result, space.lower(arch, num_classes))
    return result


def _require_same(config: dict[str, Any], plan: Plan) -> None:
    """Reject networks that the original's configuration cannot express, such as a stem without its max pool."""
    message = f"the original's configuration cannot express this network of {plan.input_shape[1]} pixels"
    try:
        found = plan_from_config(config, plan.input_shape[1])
    except ArchError as error:
        raise ArchError(f"{message}: {error}") from None
    for ours, theirs in zip(plan.inelastic().segments, found.segments, strict=False):
        if ours.ops != theirs.ops:
            raise ArchError(f"{message}: {ours.name} would be another block there")
    if len(plan.segments) != len(found.segments):
        raise ArchError(f"{message}: it would have {len(found.segments)} parts there, not {len(plan.segments)}")


def _mobile(segment: Segment, ratio: float) -> dict[str, Any]:
    depthwise, out = _op(segment, "depthwise.conv"), segment.out_shape
    layer = {
        "name": "MBConvLayer",
        "in_channels": segment.in_shape[0],
        "out_channels": out[0],
        "kernel_size": depthwise.kernel,
        "stride": depthwise.stride,
        "expand_ratio": ratio,
        "mid_channels": depthwise.shape[0] if ratio != 1 else None,
        "act_func": _activation(segment, "depthwise.act"),
        "use_se": any(isinstance(op, Scale) for op in segment.ops),
    }
    return _residual(layer, segment.in_shape, segment.ops)


def _stem(segment: Segment) -> dict[str, Any]:
    prefix = segment.ops[0].name.removesuffix(".conv")
    layer = _conv_layer(segment, prefix)
    return _residual(layer, segment.in_shape, segment.ops) if prefix == "residual" else layer


def _residual(layer: dict[str, Any], shape: Shape, ops: Iterable[Op]) -> dict[str, Any]:
    identity = {"name": "IdentityLayer", "in_channels": [shape[0]], "out_channels": [shape[0]], **PLAIN}
    return {"name": "ResidualBlock", "conv": layer, "shortcut": identity if any(isinstance(op, Add) for op in ops) else None}


def _bottleneck(segment: Segment, ratio: float) -> dict[str, Any]:
    return {
        "name": "ResNetBottleneckBlock",
        "in_channels": segment.in_shape[0],
        "out_channels": segment.out_shape[0],
        "kernel_size": 3,
        "stride": _op(segment, "spatial.conv").stride,
        "expand_ratio": ratio,
        "mid_channels": _op(segment, "spatial.conv").shape[0],
        "act_func": _activation(segment, "act"),
        "groups": 1,
        "downsample_mode": "avgpool_conv",
    }


def _conv_layer(segment: Segment, prefix: str) -> dict[str, Any]:
    conv = _op(segment, f"{prefix}.conv")
    return {
        "name": "ConvLayer",
        "kernel_size": conv.kernel,
        "stride": conv.stride,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "has_shuffle": False,
        "use_se": False,
        "in_channels": conv.in_channels,
        "out_channels": conv.shape[0],
        "use_bn": any(op.name == f"{prefix}.norm" for op in segment.ops),
        "act_func": _activation(segment, f"{prefix}.act"),
        "dropout_rate": 0,
        "ops_order": "weight_bn_act",
    }


def _op(segment: Segment, name: str) -> Conv:
    (conv,) = (op for op in segment.ops if op.name == name and isinstance(op, Conv))
    return conv


def _activation(segment: Segment, name: str) -> str:
    (function,) = (op.function for op in segment.ops if op.name == name and isinstance(op, Activation))
    return function
