"""Read third-party weights from torch checkpoints of any age and safetensors files, without executing their content.

Torch checkpoints are pickles, and a pickle can run any code. They are only read by torch's restricted reader
(`weights_only=True`), which creates tensors and plain containers and rejects everything else.
"""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..common.files import reading_or_writing, regular_file
from ..common.places import plain_path
from ..errors import CheckpointError, FileError

CONTAINERS = (dict, list, tuple)
NESTED = ("state_dict", "model", "model_state_dict")


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by their names in the file, on the CPU.

    If the top level has a dictionary `state_dict`, `model` or `model_state_dict`, as training scripts write it, this is returned.

    Args:
        path: a state dict written by torch.save (zip or the older format), or a safetensors file.

    Raises:
        CheckpointError: the file is unreadable, of another kind or damaged, or holds anything but finite tensors.
    """
    path = Path(path)
    try:
        size = regular_file(path)
        with reading_or_writing(path), path.open("rb") as file:
            plain = file.read(9)[8:] == b"{"
    except FileError as error:
        raise CheckpointError(str(error)) from None
    return _checked(path, _load(path, plain, size), size)


def _load(path: Path, plain: bool, size: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about formats that it rejects or has deprecated
        try:
            if plain:
                with plain_path(path) as plain_name:
                    return safetensors.torch.load_file(plain_name, device="cpu")
            _check_archive(path, size)
            return torch.load(path, map_location="cpu", weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:  # damaged files make torch raise almost anything
            asked = re.search(r"(?:GLOBAL|global:?) ([A-Za-z_][\w.]*\.\w+)", str(error))
            if asked:
                raise CheckpointError(
                    f"{path}: holds more than tensors ({asked[1]}), refused because it could run code: "
                    "save the network's state_dict() alone with torch.save"
                ) from None
            raise CheckpointError(
                f"{path}: not a checkpoint of torch or safetensors, or damaged ({type(error).__name__}): "
                "check the path, or get the file again"
            ) from None


def _check_archive(path: Path, size: int) -> None:
    """Reject compressed archives, as 1 MB could become 1 GB in memory (torch.save never compresses), and check checksums."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(entry.file_size for entry in entries) > size:
            raise CheckpointError(
                f"{path}: a zip archive that is larger unpacked, which torch.save does not write: unpack it if it holds a "
                "checkpoint, or get the file again"
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: the checksum of {damaged!r} in it does not match, so it is damaged: get the file again")


def _checked(path: Path, found: Any, size: int) -> dict[str, Tensor]:
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found:
        what = f"an empty {type(found).__name__}" if isinstance(found, CONTAINERS) and not found else f"a {type(found).__name__}"
        raise CheckpointError(f"{path}: holds {what}, not tensors by name: save the network's state_dict()")
    if odd := [name for name in found if not isinstance(name, str)]:
        raise CheckpointError(f"{path}: a name is {odd[0]!r}, not a text: save the network's state_dict()")
    return {name: _tensor(path, name, value, size) for name, value in found.items()}


def _tensor(path: Path, name: str, value: Any, size: int) -> Tensor:
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{path}: {name!r} is of type {type(value).__name__}, not a tensor: save the network's state_dict()")
    tensor = value.detach()
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
        raise CheckpointError(f"{path}: {name!r} is a tensor without plain numbers: save it dense and not quantized")
    if tensor.numel() * tensor.element_size() > size:  # a stride of 0 can make a file of 1 kB describe terabytes
        raise CheckpointError(f"{path}: {name!r} is larger than the file, so it is damaged: get the file again")
    if not (tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all():
        raise CheckpointError(f"{path}: {name!r} holds values that are not finite, so it is damaged: get the file again")
    return tensor
