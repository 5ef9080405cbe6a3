"""Ways to run a network. A new one is one file here and one line in `RUNTIMES`; all pass the same contract tests."""

from .aotinductor import AotInductor
from .common import Function, Hardware, Images, Runtime
from .cuda import Cuda
from .executorch import ExecuTorch
from .litert import LiteRt
from .onnxruntime import OnnxRuntime
from .onnxruntime_int8 import OnnxRuntimeInt8
from .openvino import OpenVino
from .openvino_int8 import OpenVinoInt8
from .pytorch import PyTorch
from .tensorrt import TensorRt

__all__ = ["RUNTIMES", "Function", "Hardware", "Images", "Runtime"]


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": OnnxRuntime(),
    "onnxruntime-int8": OnnxRuntimeInt8(),
    "pytorch": PyTorch(),
    "aotinductor": AotInductor(),
    "openvino": OpenVino(),
    "openvino-int8": OpenVinoInt8(),
    "executorch": ExecuTorch(),
    "litert": LiteRt(),
    "cuda": Cuda(),
    "tensorrt": TensorRt(),
}
