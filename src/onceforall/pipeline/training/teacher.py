"""An external teacher: a torchvision or timm classifier trained on the same classes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ...common.files import sha256
from ...common.packages import import_package
from ...common.places import expanded
from ...common.readable import plural
from ...errors import CheckpointError, TrainingError
from ...nn.tensor_files import read_tensors
from ...resolutions import Resolution, height_width
from ...train import Schedule

FORM = "give LIBRARY:MODEL:FILE, such as torchvision:resnet50:weights.pth, with LIBRARY torchvision or timm"


def load_teacher(
    text: str, num_classes: int, resolutions: tuple[Resolution, ...], digest: str | None = None, *, channels: int = 3
) -> nn.Module:
    """Load the frozen teacher in eval mode: images (n, c, r, r), preprocessed as for the student, to logits (n, num_classes).

    Args:
        text: LIBRARY:MODEL:FILE; FILE has the model's state dict, by torch.save or as safetensors.
        resolutions: resolutions at which it will be used, ascending; it is tried once at the smallest and the largest.
        digest: sha256 of the file when the run was started, if known.
        channels: channels of the images.

    Raises:
        TrainingError: the text has another form, the model is unknown or cannot take such images, or the file has changed.
        CheckpointError: the weights are damaged or do not fit.
        MissingExtraError: timm is not installed.
    """
    library, name, file = _parts(text)
    if digest is not None and sha256(expanded(file)) != digest:
        raise TrainingError(
            f"teacher {text!r}: the file is not the one that the run was started with: restore it, or choose another --out"
        )
    tensors = read_tensors(expanded(file))
    try:
        model = _library(library)[1](name, num_classes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(f"teacher {text!r}: {library} cannot create it: {' '.join(str(error).split())[:200]}") from None
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{file}: not the weights of {library}'s {name} with {num_classes} classes: {' '.join(str(error).split())[:200]}"
        ) from None
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for resolution in {resolutions[0], resolutions[-1]}:
        try:
            with torch.no_grad():
                shape = tuple(model(torch.zeros(2, channels, *height_width(resolution))).shape)
        except (RuntimeError, ValueError, AssertionError, AttributeError) as error:
            kind = "" if channels == 3 else f" and {plural(channels, 'channel')}"
            raise TrainingError(f"teacher {text!r} cannot take images of {resolution} pixels{kind}: {str(error)[:200]}") from None
        if shape != (2, num_classes):
            raise TrainingError(f"teacher {text!r} returns logits of shape {shape} for 2 images, (2, {num_classes}) is needed")
    return model


def lasting_teacher(text: str) -> str:
    """The text with the file's absolute path, so that a resume finds it from any working folder.

    Raises:
        TrainingError: the text is not of the form.
    """
    library, name, file = _parts(text)
    return f"{library}:{name}:{expanded(file).resolve()}"


def check_teacher(text: str) -> str:
    """Check library, model name and weights file before the images are read; return the file's sha256.

    Raises:
        TrainingError: the text has another form or names an unknown model.
        MissingExtraError: timm is not installed.
        FileError: there is no such file.
        CheckpointError: it has no weights.
    """
    library, name, file = _parts(text)
    if name not in _library(library)[0]():
        raise TrainingError(f"teacher {text!r}: {library} has no model {name!r}: {FORM}")
    read_tensors(expanded(file))
    return sha256(expanded(file))


def _parts(text: str) -> tuple[str, str, str]:
    """Library, model and file."""
    library, _, rest = text.partition(":")
    name, _, file = rest.partition(":")
    if library not in ("torchvision", "timm") or not name or not file:
        raise TrainingError(f"teacher {text!r}: {FORM}")
    return library, name, file


def _library(name: str) -> tuple[Callable[[], list[str]], Callable[[str, int], nn.Module]]:
    """A library's functions: one lists the names of models, one makes a model for a number of classes."""
    if name == "torchvision":
        models = import_package("torchvision", "torchvision").models
        return models.list_models, lambda model, classes: models.get_model(model, weights=None, num_classes=classes)
    timm = import_package("timm", "timm")
    return timm.list_models, lambda model, classes: timm.create_model(model, pretrained=False, num_classes=classes)


def with_external_teacher(schedule: Schedule) -> Schedule:
    """The schedule with the external teacher in all phases that distill, or in all phases if none does."""
    everywhere = not any(phase.distil for phase in schedule.phases)
    phases = tuple(
        replace(phase, teacher="external", distil=True) if everywhere or phase.distil else phase for phase in schedule.phases
    )
    return replace(schedule, phases=phases)
