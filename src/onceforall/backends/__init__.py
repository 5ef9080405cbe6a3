"""Runtimes, one file each: how a network is converted, loaded and run, and the files it is exported to.

`RUNTIMES` are used to measure latency; `FORMATS` are the files that an export can contain. Their names are available without
importing torch, for completion on the command line.
"""

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .common import Runtime
    from .format import Format

__all__ = ["FORMATS", "RUNTIMES"]

T = TypeVar("T")


class _Registry(UserDict[str, T]):
    """A dictionary that imports a value on first access; until then it is "module.NAME", with a module of this package."""

    def __init__(self, values: Mapping[str, str | T]) -> None:
        self.data: dict[str, Any] = dict(values)

    def __getitem__(self, key: str) -> T:
        found = self.data[key]
        if isinstance(found, str):
            module, name = found.split(".")
            found = self.data[key] = vars(import_module(f".{module}", __name__))[name]
        return found  # type: ignore[no-any-return]


RUNTIMES: "_Registry[Runtime]" = _Registry({
    "onnxruntime": "onnxruntime.ONNXRUNTIME",
    "onnxruntime-int8": "onnxruntime.ONNXRUNTIME_INT8",
    "pytorch": "pytorch.PYTORCH",
    "aotinductor": "torch_export.AOTINDUCTOR",
    "openvino": "openvino.OPENVINO",
    "openvino-int8": "openvino.OPENVINO_INT8",
    "executorch": "executorch.EXECUTORCH",
    "litert": "litert.LITERT",
    "cuda": "cuda.CUDA",
    "tensorrt": "tensorrt.TENSORRT",
})  # fmt: skip
FORMATS: "_Registry[Format]" = _Registry({
    "pytorch": "pytorch.MODEL_PY",
    "onnx": "onnxruntime.ONNX",
    "onnx-int8": "onnxruntime.ONNX_INT8",
    "openvino": "openvino.XML",
    "openvino-int8": "openvino.XML_INT8",
    "torch-export": "torch_export.PT2",
    "executorch": "executorch.PTE",
    "litert": "litert.TFLITE",
})  # fmt: skip
