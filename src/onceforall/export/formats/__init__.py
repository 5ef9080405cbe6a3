"""The files that an export can hold. A new format is one file here and one line in `FORMATS`; all get the same proof."""

from .common import Format, Job, Run
from .executorch import EXECUTORCH
from .litert import LITERT
from .onnx import ONNX
from .onnx_int8 import ONNX_INT8
from .openvino import OPENVINO
from .openvino_int8 import OPENVINO_INT8
from .pytorch import PYTORCH
from .torch_export import TORCH_EXPORT

__all__ = ["FORMATS", "Format", "Job", "Run"]

FORMATS: dict[str, Format] = {
    "pytorch": PYTORCH,
    "onnx": ONNX,
    "onnx-int8": ONNX_INT8,
    "openvino": OPENVINO,
    "openvino-int8": OPENVINO_INT8,
    "torch-export": TORCH_EXPORT,
    "executorch": EXECUTORCH,
    "litert": LITERT,
}
