"""Convert the original's weights, as state dicts and checkpoints, to a `Supernet` or a plain network, and back."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..common.files import write_bytes
from ..errors import CheckpointError, StatisticsError
from ..nn.tensor_files import read_tensors
from ..space import Space
from ..spaces import space as make_space
from ..supernets.supernet import Supernet
from .names import STATISTICS_COUNT, original_names, plain_name

NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ofa_mbv3_d234_e346_k357_w1_0": ("mobilenet_v3", {"width": 1.0}),
    "ofa_mbv3_d234_e346_k357_w1_2": ("mobilenet_v3", {"width": 1.2}),
    "ofa_proxyless_d234_e346_k357_w1_3": ("proxyless", {"width": 1.3}),
    "ofa_resnet50": ("resnet50d", {}),
}
ALIASES = {  # names of files, and in torch.hub
    "ofa_supernet_resnet50": "ofa_resnet50",
    "ofa_supernet_mbv3_w10": "ofa_mbv3_d234_e346_k357_w1_0",
    "ofa_supernet_mbv3_w12": "ofa_mbv3_d234_e346_k357_w1_2",
    "ofa_supernet_proxyless": "ofa_proxyless_d234_e346_k357_w1_3",
}
CLASSIFIER = "classifier.linear.weight"


def network_name(name: str) -> str:
    """An elastic network's name in the spelling of `NAMES`; the original also uses ".", and other names in torch.hub."""
    plain = name.replace(".", "_")
    return ALIASES.get(plain, plain)


def published_space(name: str) -> Space:
    """The space of one of the original's elastic networks, with all of its 25 resolutions.

    Args:
        name: the original's name, such as "ofa_mbv3_d234_e346_k357_w1.2"; "_" may stand for ".".

    Raises:
        CheckpointError: an unknown name.
    """
    plain = network_name(name)
    if plain not in NAMES:
        raise CheckpointError(f"unknown network {name!r}: choose one of {', '.join(NAMES)}")
    family, arguments = NAMES[plain]
    return make_space(family, **arguments)


def load_supernet(source: Path | str | Mapping[str, Tensor], name: str) -> Supernet:
    """Load a supernet with the original's weights and running statistics, in eval mode.

    The number of classes is taken from the weights. The running statistics are the original's, which are only correct for the
    largest sub-network: evaluate others with `Supernet.extract` and `onceforall.calibrate.recalibrate`.

    Args:
        source: a file (torch.save of a state dict, or safetensors), or the state dict itself, possibly under the key
            "state_dict". Old and new spellings of the names are supported. Only tensors are ever unpickled.
        name: the name of the original's network, see `NAMES`.

    Raises:
        CheckpointError: an unknown name, an unreadable file, or weights that are missing, left over, misshapen or not finite.
    """
    space = published_space(name)
    given = source if isinstance(source, Mapping) else read_tensors(source)
    nested = given.get("state_dict")
    given = nested if isinstance(nested, Mapping) else given
    try:
        with torch.device("meta"):  # no memory for weights that may not fit, and no initialization
            supernet = Supernet(space, _classes(given))
        own = matched(supernet.state_dict(), _names(supernet), given, what=f"{name} ({space.family})")
    except CheckpointError as error:
        raise CheckpointError(str(error) if isinstance(source, Mapping) else located(source, error)) from None
    supernet.load_state_dict(own, assign=True)
    return supernet.to(memory_format=torch.channels_last).eval()


def original_state_dict(supernet: Supernet) -> dict[str, Tensor]:
    """Copies of the weights and running statistics on the CPU, under the names of the original's elastic network.

    Raises:
        StatisticsError: the supernet was trained and its running statistics were dropped.
        CheckpointError: the space's family is not one of the original's.
    """
    if supernet.space.channels != 3:
        raise CheckpointError(f"the original's networks take images of 3 channels, and this one takes {supernet.space.channels}")
    result: dict[str, Tensor] = {}
    names, own = _names(supernet), supernet.state_dict()
    for ours, theirs in names.items():
        result[theirs] = own[ours].detach().to("cpu", copy=True).contiguous()
        if not result[theirs].isfinite().all():
            if "running_" in ours:
                raise StatisticsError(f"{ours} is not finite: the running statistics were dropped in training, measure them first")
            raise CheckpointError(f"{ours} is not finite: the weights have diverged")
        if theirs.endswith("running_var"):
            result[theirs.replace("running_var", STATISTICS_COUNT)] = torch.zeros((), dtype=torch.long)
    return result


def save_original(supernet: Supernet, path: Path) -> None:
    """Write a checkpoint for the original's code: {"state_dict": ...} of `original_state_dict`, with torch.save.

    Raises:
        StatisticsError, CheckpointError: see `original_state_dict`.
        FileError: the file cannot be written.
    """
    save_checkpoint(path, original_state_dict(supernet))


def save_checkpoint(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write {"state_dict": weights} atomically with torch.save."""
    buffer = io.BytesIO()
    torch.save({"state_dict": dict(weights)}, buffer)
    write_bytes(path, buffer.getvalue())


def matched(own: Mapping[str, Tensor], names: Mapping[str, str], given: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """Rename the given tensors to our names, as copies in float32 on the CPU.

    Args:
        own: our tensors, for their shapes.
        names: the original's name of each of our tensors.
        given: tensors by the original's names, in any spelling.
        what: the network, for messages.

    Raises:
        CheckpointError: a tensor is missing, left over, duplicate, misshapen or not finite.
    """
    by_name: dict[str, Tensor] = {}
    for name, tensor in given.items():
        plain = plain_name(name) if isinstance(name, str) else repr(name)
        if plain in by_name:
            raise CheckpointError(
                f"two names in the checkpoint mean {plain!r:.100}: it holds more than one network: give one of them"
            )
        by_name[plain] = tensor
    wanted = {ours: plain_name(theirs) for ours, theirs in names.items() if not ours.endswith(STATISTICS_COUNT)}
    if missing := [name for name in wanted.values() if name not in by_name]:
        raise CheckpointError(f"missing in the checkpoint: {_some(missing)}; it is not of {what}: give the name of its network")
    known = set(wanted.values())
    if extra := [name for name in by_name if name not in known and not name.endswith(STATISTICS_COUNT)]:
        raise CheckpointError(f"in the checkpoint, but not in {what}: {_some(extra)}; it is of another network: give its name")
    result = {name: torch.zeros((), dtype=torch.long) for name in own if name.endswith(STATISTICS_COUNT)}
    for ours, plain in wanted.items():
        result[ours] = _fitting(plain, by_name[plain], own[ours], what)
    return result


def located(path: Path | str, error: CheckpointError) -> str:
    """The error's message, prefixed with the path."""
    return str(error) if str(error).startswith(f"{path}:") else f"{path}: {error}"


def _some(names: list[str]) -> str:
    return f"{names[0]!r:.100}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _fitting(name: str, tensor: object, own: Tensor, what: str) -> Tensor:
    if not _is_plain(tensor):
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise CheckpointError(f"{name} in the checkpoint is {found}: a dense tensor of floating-point numbers is needed")
    if tensor.shape != own.shape:
        raise CheckpointError(
            f"{name} in the checkpoint has shape {tuple(tensor.shape)}, not {tuple(own.shape)} as {what}: give its network's name"
        )
    copy = tensor.detach().to("cpu", torch.float32, copy=True)
    if not copy.isfinite().all():
        raise CheckpointError(f"{name} in the checkpoint holds values that are not finite")
    return copy


def _is_plain(tensor: object) -> TypeGuard[Tensor]:
    """Whether it is a dense floating-point tensor with memory."""
    if not isinstance(tensor, Tensor) or tensor.is_nested or tensor.layout != torch.strided:
        return False
    return tensor.is_floating_point() and not tensor.is_meta


def _names(supernet: Supernet) -> dict[str, str]:
    space = supernet.space
    return original_names(space.family, space.lower(space.largest(), supernet.num_classes), supernet.state_dict())


def _classes(given: Mapping[str, Tensor]) -> int:
    """Number of classes, from the rows of the classifier."""
    for name, tensor in given.items():
        if isinstance(name, str) and plain_name(name) == CLASSIFIER and _is_plain(tensor) and tensor.ndim == 2 and len(tensor):
            return len(tensor)
    raise CheckpointError(f"the checkpoint has no {CLASSIFIER} (classes, features): it is not one of the original's networks")
