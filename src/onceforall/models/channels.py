"""Adapt a network to images with another number of channels, by converting the weights of its first convolution."""

from collections.abc import Mapping
from math import ceil

import torch
from torch import Tensor, nn

from ..common.readable import plural
from ..errors import ModelError
from ..reader.exporting import first_convolution

COLORS = 3


def for_images(model: nn.Module, channels: int, source: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Adapt the network's first convolution in place if it takes images with 3 channels; also return a note about it.

    Args:
        model: its `default_cfg` may name its first convolutions, as in timm; by default, the first one in module order is used.
        channels: channels of the images.
        source: the network's name for messages.

    Raises:
        ModelError: its first convolution takes images with neither 3 channels nor this number.
    """
    if channels == COLORS:
        return model, ()
    config = vars(model).get("pretrained_cfg") or vars(model).get("default_cfg")
    named = config.get("first_conv") if isinstance(config, Mapping) else None
    names = [name for name in ([named] if isinstance(named, str) else named or []) if name]
    names = [name for name in names if name in dict(model.named_modules())] or [first_convolution(model) or ""]
    found = [model.get_submodule(name) for name in names]
    read = [conv.in_channels if isinstance(conv, nn.Conv2d) else 0 for conv in found]
    if set(read) == {channels}:
        return model, ()
    if set(read) != {COLORS} or any(conv.groups != 1 or "weight" not in conv._parameters for conv in found):
        has = " and ".join(f"{name or 'none'} reads {plural(own, 'channel')}" for name, own in zip(names, read, strict=True))
        raise ModelError(
            f"{source} cannot be made for images of {plural(channels, 'channel')}: the first convolution must read "
            f"images of 3 ({has}); give a network for such images"
        )
    with torch.no_grad():
        for conv in found:
            assert isinstance(conv, nn.Conv2d)
            conv.weight = nn.Parameter(weight_for(channels, conv.weight), conv.weight.requires_grad)
            conv.in_channels = channels
    how = "the sum over its three channels" if channels == 1 else f"its channels repeated, times 3 / {channels}"
    return model, (f"the first convolution ({', '.join(names)}) is made for {plural(channels, 'channel')}: {how}",)


def weight_for(channels: int, weight: Tensor) -> Tensor:
    """Convert weights of a first convolution (out, 3, height, width) to another number of channels (out, channels, height, width).

    Like timm's `adapt_input_conv`: one channel gets the sum over the three, which gives the same result as a gray image in three
    equal channels; otherwise the channels are repeated and scaled so that their sum is about the same.
    """
    if channels == 1:
        return weight.float().sum(1, keepdim=True).to(weight.dtype)
    return weight.repeat(1, ceil(channels / COLORS), 1, 1)[:, :channels] * (COLORS / channels)
