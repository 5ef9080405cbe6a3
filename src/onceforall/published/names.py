"""Map our names of weights to the original project's.

The original has several spellings for one tensor: elastic layers wrap plain ones (`conv.conv.weight`, `bn.bn.bias`), old
checkpoints use `mobile_inverted_conv` for `conv`, and training scripts may add `module.`. `plain_name` normalizes all of them
to one spelling.
"""

import re
from collections.abc import Mapping

from ..errors import CheckpointError
from ..ops import Conv, Linear, Norm
from ..plan import Plan

STATISTICS_COUNT = "num_batches_tracked"  # of a batch norm: present in the original's files, but unused
CLASSES = {"mobilenet_v3": "MobileNetV3", "proxyless": "ProxylessNASNets", "resnet50d": "ResNets"}  # in specialized networks
MOBILE_BLOCK = {
    "expand": "conv.inverted_bottleneck",
    "depthwise": "conv.depth_conv",
    "se.reduce": "conv.depth_conv.se.fc.reduce",
    "se.expand": "conv.depth_conv.se.fc.expand",
    "project": "conv.point_linear",
}
MOBILE = {
    "stem.first": "first_conv",
    **{f"fixed.{ours}": f"blocks.0.{theirs}" for ours, theirs in MOBILE_BLOCK.items()},
    "head.expand": "final_expand_layer",
    "head.mix": "feature_mix_layer",
    "head.classifier": "classifier",
}
RESNET_BLOCK = {"reduce": "conv1", "spatial": "conv2", "expand": "conv3", "shortcut": "downsample"}
RESNET = {
    "stages.0.0.first": "input_stem.{}",
    "stages.0.1.residual": "input_stem.{}.conv",
    "stages.1.0.last": "input_stem.{}",
    "head.classifier": "classifier",
}
# fixed parts (with a placeholder for the number in the stem); parts of a block; index of the first elastic block; whether the
# classifier is elastic
FAMILIES = {
    "mobilenet_v3": (MOBILE, MOBILE_BLOCK, 1, False),
    "proxyless": (MOBILE, MOBILE_BLOCK, 1, False),
    "resnet50d": (RESNET, RESNET_BLOCK, 0, True),
}


def plain_name(name: str) -> str:
    """Normalize the original's spellings of a tensor's name, to compare names."""
    name = name.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
    return re.sub(r"\.(conv|bn|linear)(\.\1)+(?=\.)", r".\1", name)


def original_names(family: str, plan: Plan, tensors: Mapping[str, object], *, elastic: bool = True) -> dict[str, str]:
    """Map each of our tensors to its name in the original's elastic network, or in its plain one.

    Args:
        plan: the network's plan; for a supernet, the largest one.
        tensors: the network's tensors, by name.
        elastic: use the names of the elastic network, whose layers wrap plain ones.

    Raises:
        CheckpointError: the original has no such family.
    """
    if family not in FAMILIES:
        raise CheckpointError(f"{family} is not one of the original's families: it has names for {', '.join(FAMILIES)}")
    fixed, block, number, elastic_classifier = FAMILIES[family]
    names: dict[str, str] = {}
    stem = 0
    for segment in plan.segments:
        wraps = elastic and segment.name.startswith("stages.")
        counted = in_stem = False
        for op in segment.ops:
            if not isinstance(op, Conv | Norm | Linear):
                continue
            part = op.name.removesuffix(".conv").removesuffix(".norm")
            theirs = fixed.get(f"{segment.name}.{part}")
            if theirs is None:
                theirs, counted = f"blocks.{number}.{block[part]}", True
            elif "{}" in theirs:
                theirs, in_stem = theirs.format(stem), True
            kind = {Conv: "conv", Norm: "bn", Linear: "linear"}[type(op)]
            gates = part.startswith("se.")  # plain convolutions without a wrapper
            wrapped = elastic and elastic_classifier if kind == "linear" else wraps
            prefix = theirs if gates else f"{theirs}.{kind}"
            ours = f"{segment.name}.{op.name}."
            for name in (name for name in tensors if name.startswith(ours)):
                leaf = name.removeprefix(ours)
                inner = f"{kind}." if wrapped and not gates and not leaf.endswith("_matrix") else ""
                names[name] = f"{prefix}.{inner}{leaf}"
        number += counted
        stem += in_stem
    return names
