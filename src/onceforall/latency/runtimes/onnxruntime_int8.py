"""ONNX Runtime on the CPU, int8: quantised as `nn/quantise.py` says."""

from dataclasses import dataclass, field

from ...plan import Plan
from .common import INT8, Hardware, Images, OnHost, Weights, noise
from .converted import Converted
from .onnxruntime import OnnxRuntime, load_model

__all__ = ["OnnxRuntimeInt8"]


@dataclass(frozen=True, eq=False)
class OnnxRuntimeInt8:
    """As `OnnxRuntime`, with a quantised model.

    Args:
        calibration: images (n, *plan.input_shape) whose ranges are used. Default: noise, which serves for latency.
    """

    calibration: Images | None = None
    package = "onnxruntime"
    tolerance = INT8
    _converted: Converted = field(default_factory=Converted, init=False, repr=False)

    def hardware(self) -> Hardware:
        return OnnxRuntime().hardware()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...nn.onnx import to_onnx
        from ...nn.quantise import quantise_onnx

        calibration = noise(plan.input_shape) if self.calibration is None else self.calibration
        model = self._converted.get(plan, weights, (), lambda: quantise_onnx(to_onnx(plan, weights), calibration))
        return load_model(model, threads=threads, shape=(batch, *plan.input_shape))
