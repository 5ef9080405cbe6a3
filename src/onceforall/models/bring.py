"""`bring`: load the network that a text names.

`FILE.py:FUNCTION` runs the user's code in that file. Files of weights are read without running anything in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256 as hasher
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from ..common.places import expanded
from ..common.progress import QUIET, Progress
from ..errors import ModelError
from ..preprocess import CHANNELS, INTERPOLATIONS, LEAST_SHARE
from .authors import of_authors
from .channels import for_images
from .code import of_file, split_source
from .fill import filled, weights_of
from .libraries import of_hub, of_timm, of_torchvision
from .parts import RANDOM, Brought, Maker, Request, make_network

SOURCES: dict[str, Callable[[Request], Maker]] = {"timm": of_timm, "torchvision": of_torchvision, "hf": of_hub, "ofa": of_authors}


def is_library(text: str) -> bool:
    """Whether a text names a network of a library, not of the user's code."""
    library, colon, _ = text.partition(":")
    return bool(colon) and library in SOURCES


def is_source(text: str) -> bool:
    """Whether a text names a network and not a run directory."""
    return is_library(text) or ".py:" in text or (text.endswith(".py") and not Path(text).is_dir())


def lasting_source(text: str) -> str:
    """The text, with an absolute path of the user's file."""
    if is_library(text):
        return text
    file, name = split_source(text)
    return f"{expanded(file).resolve()}:{name}"


def lasting_weights(weights: Path | str | None) -> str | None:
    """The value of `--weights`, valid from any working directory."""
    return None if weights is None else RANDOM if str(weights) == RANDOM else str(expanded(weights).resolve())


def bring(
    text: str, weights: Path | str | None = None, *, channels: int | None = None, seed: int = 0, progress: Progress = QUIET
) -> Brought:
    """Load the network that a text names.

    Args:
        text: "timm:NAME", "timm:NAME.TAG", "torchvision:NAME", "torchvision:NAME.TAG", "hf:USER/REPO" or "ofa:NAME"; or
            "FILE.py:FUNCTION", user code that is executed and called without arguments.
        weights: a file with a state dict (torch.save or safetensors); "random" for a library's initial weights; None for the
            function's weights, or a library's trained weights, which are downloaded unless they are in its cache.
        channels: channels of the images, to which the first convolution is adapted, see `for_images`; None leaves it unchanged.
        seed: seed of random weights; torch's own generator is not affected.
        progress: its `event` receives "download" records.

    Raises:
        ModelError: the name is unknown, the code fails or returns no network, or the weights belong to another network.
        CheckpointError: the file is damaged or contains more than tensors.
        FileError: the file is missing, or the weights cannot be downloaded or were changed.
        MissingExtraError: timm or huggingface_hub is not installed.
    """
    request = Request(text, RANDOM if str(weights) == RANDOM else None if weights is None else expanded(weights), progress.event)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = (SOURCES[text.partition(":")[0]] if is_library(text) else of_file)(request)
        model = make_network(found, None)
        unfilled: Mapping[str, str] = {}
        if request.file is not None and not found.has_file:
            try:
                model, unfilled = filled(found, model, request.file)
            except ModelError:  # perhaps the file's weights are for other channels
                if channels is None:
                    raise
                other = replace(found, make=lambda classes: for_images(make_network(found, classes), channels, found.source)[0])
                model, unfilled = filled(other, make_network(other, None), request.file)
            found = replace(found, weights=weights_of(request.file))
        elif found.weights.sha256 == "":
            found = replace(found, weights=replace(found.weights, sha256=_digest(model)))
    model, notes = _plain(model)
    more: tuple[str, ...] = ()
    if channels is not None:
        model, more = for_images(model, channels, found.source)
    notes = (*notes, *more, *found.weights.notes)
    settings = vars(model).get("pretrained_cfg") or vars(model).get("default_cfg") or found.images
    brought = Brought(found.source, model.eval(), found.weights, unfilled, pixels=found.pixels, notes=notes)
    return _with_preprocessing(brought, settings) if isinstance(settings, Mapping) else brought


def _digest(model: nn.Module) -> str:
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    return hasher(to_bytes(tensors)).hexdigest()


def _plain(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network in float32 on the CPU, with a note if it had another type."""
    types = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()} - {torch.float32}
    if any(t.is_quantized for t in (*model.parameters(), *model.buffers())):
        raise ModelError("the network is quantized, so it cannot be trained: give the network from before quantization")
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in types)
    notes = (f"the network has {names} weights: it is converted to float32",) if types else ()
    return (model.float() if types else model).cpu(), notes


def _with_preprocessing(brought: Brought, settings: Mapping[str, Any]) -> Brought:
    """Add the preprocessing that the network or its library specifies, under timm's names."""
    mean, std = settings.get("mean", brought.mean), settings.get("std", brought.std)
    size = settings.get("input_size", (brought.pixels,))
    try:
        mean, std = tuple(map(float, mean)), tuple(map(float, std))
        if len(mean) != len(std) or len(mean) not in CHANNELS:
            raise ValueError
        pixels = None if size[-1] is None else int(size[-1])
        share = None if settings.get("crop_pct") is None else float(settings["crop_pct"])
    except (TypeError, ValueError, IndexError):
        raise ModelError(
            f"{brought.source}: in its default_cfg, mean and std must be three numbers each (or one, or four), input_size must be "
            "(3, r, r), and crop_pct a number"
        ) from None
    if min(std) <= 0:
        raise ModelError(f"{brought.source}: std of its default_cfg is {std}: numbers above 0 are needed")
    if share is not None and not share >= LEAST_SHARE:
        raise ModelError(f"{brought.source}: crop_pct of its default_cfg is {share:g}: a number from {LEAST_SHARE} to 1 is needed")
    how, notes = settings.get("interpolation") or brought.interpolation, brought.notes
    if share is not None and share > 1:
        notes = (*notes, f"the weights expect images shrunk to {1 / share:.2f} of the network's size: here, they fill it")
        share = 1.0
    if settings.get("crop_mode", "center") != "center":
        notes = (*notes, f"the weights expect images cropped by {settings['crop_mode']!r}: the center is used")
    if how not in INTERPOLATIONS:
        notes = (*notes, f"the weights expect images resized by {how!r}: {brought.interpolation} is used")
        how = brought.interpolation
    return replace(brought, mean=mean, std=std, pixels=pixels, crop_share=share, interpolation=str(how), notes=notes)
