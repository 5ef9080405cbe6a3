"""TensorRT on an NVIDIA GPU, float32 (no TF32), from the ONNX model; written for TensorRT 10.

It cannot be installed from the package index alone: see NVIDIA's instructions. It uses torch's memory and streams.
"""

import importlib.util
from typing import Any

import torch

from ..common.onnx_options import INPUT, OUTPUT
from ..common.packages import import_package
from ..errors import DeviceError
from ..nn.onnx import to_onnx
from ..ops import Shape
from .common import Hardware, Runtime
from .cuda import OnGpu, gpu


def _find() -> Hardware:
    if importlib.util.find_spec("tensorrt") is None:
        raise DeviceError(
            "TensorRT needs NVIDIA's package 'tensorrt', which is not installed, and an NVIDIA GPU: "
            "see https://docs.nvidia.com/deeplearning/tensorrt to install it"
        )
    return gpu("TensorRT")


def _open(model: tuple[bytes, Shape], *, threads: int, shape: Shape | None) -> OnGpu:
    """An engine for one batch size, on a separate stream."""
    assert shape is not None
    content, output_shape = model
    context = _engine(import_package("tensorrt", "tensorrt"), content, shape).create_execution_context()
    source, result = torch.zeros(shape, device="cuda"), torch.zeros(shape[0], *output_shape, device="cuda")
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    context.set_input_shape(INPUT, shape)
    context.set_tensor_address(INPUT, source.data_ptr())
    context.set_tensor_address(OUTPUT, result.data_ptr())

    def launch() -> None:
        stream.wait_stream(torch.cuda.current_stream())
        context.execute_async_v3(stream.cuda_stream)
        torch.cuda.current_stream().wait_stream(stream)

    return OnGpu(source, result, launch)


def _engine(tensorrt: Any, model: bytes, shape: tuple[int, ...]) -> Any:
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise RuntimeError("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, shape, shape, shape)
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise RuntimeError("the builder returned no engine")
    return tensorrt.Runtime(logger).deserialize_cuda_engine(built)


TENSORRT = Runtime(
    "tensorrt",
    "TensorRT",
    "tensorrt",
    _open,
    convert=lambda plan, weights, threads, shape: (to_onnx(plan, weights), plan.output_shape),
    find=_find,
    gpu=True,
)
