"""TensorRT on an NVIDIA GPU, float32 (no TF32), from the ONNX model; written for TensorRT 10.

It does not come from the package index alone: NVIDIA's own instructions install it. Memory and streams are torch's.
"""

import importlib.util
from typing import Any

from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, Weights, import_package, one_line
from .cuda import OnGpu, gpu

__all__ = ["TensorRt"]


class TensorRt:
    """An engine for one batch size, on a stream of its own."""

    package = "tensorrt"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        if importlib.util.find_spec("tensorrt") is None:
            raise DeviceError(
                "TensorRT needs NVIDIA's package 'tensorrt', which is not installed, and an NVIDIA GPU: "
                "https://docs.nvidia.com/deeplearning/tensorrt says how to install it"
            )
        return gpu("TensorRT")

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnGpu:
        import torch

        from ...nn.onnx import INPUT, OUTPUT, to_onnx

        if threads != 1:
            raise DeviceError(f"threads is {threads}, and one thread launches work on a GPU: ask for threads=1")
        self.hardware()
        model = to_onnx(plan, weights)
        tensorrt = import_package("tensorrt", "tensorrt")
        try:
            engine = _engine(tensorrt, model, (batch, *plan.input_shape))
            context = engine.create_execution_context()
        except Exception as error:  # tensorrt raises RuntimeError and others
            raise DeviceError(f"TensorRT cannot build the network: {one_line(error)}") from error
        source = torch.zeros(batch, *plan.input_shape, device="cuda")
        result = torch.zeros(batch, *plan.output_shape, device="cuda")
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        context.set_input_shape(INPUT, tuple(source.shape))
        context.set_tensor_address(INPUT, source.data_ptr())
        context.set_tensor_address(OUTPUT, result.data_ptr())

        def launch() -> None:
            stream.wait_stream(torch.cuda.current_stream())
            context.execute_async_v3(stream.cuda_stream)
            torch.cuda.current_stream().wait_stream(stream)

        return OnGpu(source, result, launch)


def _engine(tensorrt: Any, model: bytes, shape: tuple[int, ...]) -> Any:
    from ...nn.onnx import INPUT

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
        raise RuntimeError("the builder gave no engine")
    return tensorrt.Runtime(logger).deserialize_cuda_engine(built)
