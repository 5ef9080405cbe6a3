"""Load weights from a file into a network by name and shape, or report why they do not fit."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
from torch import Tensor, nn

from ..common.files import sha256
from ..common.places import plain_path
from ..errors import ModelError
from ..nn.tensor_files import read_tensors
from .parts import Maker, Weights, make_network, some_of

PREFIXES = ("module.", "model.", "_orig_mod.")  # added by DataParallel, Lightning and torch.compile
COUNTERS = "num_batches_tracked"  # missing in files written before torch 0.4.1, and unused here


def filled(maker: Maker, model: nn.Module, path: Path) -> tuple[nn.Module, Mapping[str, str]]:
    """The network with the weights of a file, made for the file's number of classes if possible, and the unfilled tensors.

    Raises:
        CheckpointError: the file is damaged.
        ModelError: the weights belong to another network.
    """
    tensors = _renamed(read_tensors(path), model.state_dict())
    other = _classes(tensors, model.state_dict())
    if other is not None and maker.takes_classes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make_network(maker, other)
    own = model.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTERS)]
    unexpected = [name for name in tensors if name not in own]
    odd = {
        name: f"{name} is {_shape(tensors[name])} there and {_shape(value)} here"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    }
    wrong = [f"{what} {some_of(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
    if odd and _classes(tensors, own) is None:
        wrong.append(some_of(list(odd.values())))
    if wrong:
        prefix = _prefix(unexpected, missing)
        named = f"; all names in the file begin with {prefix!r}: remove this prefix" if prefix else ""
        raise ModelError(f"{path}: not the weights of {maker.source}: {'; '.join(wrong)}{named}")
    model.load_state_dict({name: value for name, value in tensors.items() if name not in odd}, strict=False)
    return model, odd


def _renamed(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that wrappers add to every name, unless the network itself has such names."""
    found = dict(tensors)
    while not set(found) & set(own):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            return dict(tensors)
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _prefix(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The prefix that all wanted names have, such as wrappers of training loops add; "" if there is none."""
    if not wanted or not names:
        return ""
    before = names[0].removesuffix(next((name for name in wanted if names[0].endswith(f".{name}")), names[0]))
    return before if before and {f"{before}{name}" for name in wanted} <= set(names) else ""


def _classes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """The file's number of classes, if it is the only difference: in all differing shapes, it replaces the same number."""
    numbers = set()
    for name, value in own.items():
        if name in tensors and (there := tensors[name].shape) != value.shape:
            if len(there) != len(value.shape):
                return None
            numbers |= {(a, b) for a, b in zip(there, value.shape, strict=True) if a != b}
    return numbers.pop()[0] if len(numbers) == 1 else None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def weights_of(path: Path) -> Weights:
    """The origin of a file's weights. A safetensors file may state its license."""
    license = None
    if path.suffix == ".safetensors":
        with plain_path(path) as plain, safetensors.safe_open(plain, "pt") as opened:
            license = (opened.metadata() or {}).get("license")
    return Weights(path.name, sha256(path), license)
