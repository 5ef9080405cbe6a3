"""`elastic`: convert a trained model to a supernet whose largest sub-network is that model."""

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, fx, nn

from ..errors import ModelError
from ..reader import read
from ..reader.dropped import with_dropped
from ..resolutions import Resolution
from ..spaces import graph_space
from ..spaces.checks import input_channels, none_of, sizes
from ..spaces.graph import KERNELS, WIDTHS
from .importance import chosen_importance, rank_units
from .supernet import Supernet

# attributes of a supernet or an extracted network
TAKEN = {*dir(Supernet), *dir(fx.GraphModule), "space", "num_classes", "graph", "meta", "_graph", "_code", "_layers", "_own"}
TAKEN |= {"_statistics", "_steps", "supernet", "arch"}


def elastic(
    model: nn.Module,
    resolutions: Sequence[Resolution] = (224,),
    *,
    widths: Sequence[float] = WIDTHS,
    heads: Sequence[float] | None = None,
    depths: Sequence[int] | None = None,
    kernels: Sequence[int] = KERNELS,
    stage_widths: Sequence[float] = (),
    channels: int | None = None,
    importance: str | None = None,
    images: Tensor | Iterable[Tensor] | None = None,
) -> Supernet:
    """Make a trained model elastic in depth, width, heads, kernel size and resolution, with its weights.

    The largest sub-network computes the same as the model, with its weights and running statistics. The model itself is not
    changed. The supernet is on the model's device and in its mode; half precision becomes float32.

    Args:
        model: takes one batch of images (n, c, height, width) and returns a tensor, or tuples, lists and mappings of tensors.
        resolutions: input sizes in pixels; "HEIGHTxWIDTH" if not square.
        widths: shares of each block's full hidden widths; () keeps them fixed.
        heads: shares of each block's attention heads; by default the same as `widths`.
        depths: numbers of blocks that a stage may have; () keeps them fixed; by default, up to four numbers from a third to all.
        kernels: odd sizes to which larger depthwise kernels may be cropped; () keeps them fixed.
        stage_widths: shares of the width of each stage's residual stream, which all its blocks read and write; fixed by default.
        channels: channels of the images; by default 3, or the first convolution's if the model does not accept 3.
        importance: how channels, hidden units and heads are ranked, since narrower networks keep the most important ones: "l1",
            "norm", "activation", "taylor" or "none", see `onceforall.supernets.importance.rank_units`. By default the best one:
            "activation" with images, "l1" without.
        images: one or several batches (n, c, height, width), preprocessed for the model, for "activation" and "taylor".

    Raises:
        ModelError: the model cannot be read, or the importance is unknown or lacks images.
        SpaceError: values that do not describe a space.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"elastic takes a torch.nn.Module, not a {type(model).__name__}")
    if isinstance(images, Tensor):
        images = [images]
    batches = None if images is None else list(images)
    if batches == []:
        raise ModelError("images has no batch: give batches (n, channels, r, r), or omit images")
    importance = chosen_importance(importance, batches)
    pixels = sizes(resolutions, at_least=1)
    if channels is not None:
        input_channels(channels)
    graph, tensors = read(model, pixels, TAKEN, streams=not none_of(stage_widths), channels=channels)
    graph = with_dropped(graph, model)
    space = graph_space(
        graph=graph.to_json(), resolutions=pixels, widths=widths, heads=heads, depths=depths, kernels=kernels,
        stage_widths=stage_widths,
    )  # fmt: skip
    supernet = Supernet(space)
    like = next((tensor for tensor in tensors.values() if tensor.is_floating_point()), torch.zeros(()))
    if empty := next((name for name, tensor in tensors.items() if tensor.is_meta), None):
        raise ModelError(f"the model's {empty} is on the meta device, where it has no values: call to_empty and load weights")
    types = (torch.float32, *(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()))
    supernet.to(device=like.device, dtype=reduce(torch.promote_types, types))  # half precision is unfit for training
    own = supernet._own
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    rank_units(supernet, importance, batches)
    fixed_mode = "train" in vars(model)  # modules of torch.export cannot change their mode, and always report train mode
    return supernet.train(model.training and not fixed_mode)
