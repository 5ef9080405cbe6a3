"""Memory and energy of a model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onceforall.errors import DeviceError
from onceforall.latency import Device
from onceforall.latency.model_file import input_shape, tiny_model
from onceforall.latency.resources import EnergyCounter, energy_mj, peak_memory_bytes


def matrix(size: int) -> bytes:
    """A model that holds size² float32 weights: (batch, size) -> (batch, size)."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name in "xy"]
    weights = onnx.numpy_helper.from_array(np.ones((size, size), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matrix", values[:1], values[1:], [weights])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def test_peak_memory_holds_the_weights(tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    (tmp_path / "big.onnx").write_bytes(matrix(4000))  # 64 MB
    found = peak_memory_bytes(tmp_path / "big.onnx", (4000,), Device("onnxruntime"), tmp_path / "tiny.onnx")
    assert 60e6 < found < 400e6
    assert peak_memory_bytes(tmp_path / "tiny.onnx", (1, 8, 8), Device("onnxruntime"), tmp_path / "tiny.onnx") < 20e6
    (tmp_path / "none.onnx").write_bytes(b"x")
    with pytest.raises(DeviceError, match="fails in a separate process"):
        peak_memory_bytes(tmp_path / "none.onnx", (4000,), Device("onnxruntime"), tmp_path / "tiny.onnx")


def test_energy_is_what_the_counters_say(tmp_path: Path) -> None:
    assert energy_mj(lambda: None, counters=tmp_path) is None
    counters = [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1", tmp_path / "intel-rapl:0:0"]
    for path in counters:
        path.mkdir()
        (path / "energy_uj").write_text("900000")
        (path / "max_energy_range_uj").write_text("1000000")

    def call() -> None:  # 150 mJ each: the counters of two packages, of which one starts again at zero
        for path in counters:
            value = int((path / "energy_uj").read_text()) + (150_000 if path.name.endswith("0") else 50_000)
            (path / "energy_uj").write_text(str(value % 1_000_000))

    assert energy_mj(call, seconds=0, counters=tmp_path) == pytest.approx(200)
    counter = EnergyCounter(tmp_path)
    for calls in range(1, 12):  # beyond the range of a counter
        call()
        assert counter.joules() == pytest.approx(0.2 * calls)
    (counters[0] / "max_energy_range_uj").unlink()  # as good as a file that only root may read
    assert energy_mj(call, counters=tmp_path) is None
    (counters[1] / "energy_uj").unlink()
    assert counter.joules() is None


@pytest.mark.parametrize(
    ("model", "given", "batch", "message"),
    [
        (b"nonsense", None, 1, "not an ONNX model"),
        (matrix(4), (5,), 1, "does not fit the model's input 4"),
        (matrix(4), (4, 4), 1, "does not fit"),
    ],
)
def test_shapes_that_do_not_fit(model: bytes, given: tuple[int, ...] | None, batch: int, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        input_shape(model, "m.onnx", given, batch)


def test_shapes() -> None:
    assert input_shape(matrix(4), "m.onnx", None, 3) == (4,)
    opened = onnx.load_from_string(tiny_model())
    dims = opened.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param = "height"
    with pytest.raises(DeviceError, match=r"the input's shape is 1x\?x8: complete it with --shape"):
        input_shape(opened.SerializeToString(), "m.onnx", None, 1)
    assert input_shape(opened.SerializeToString(), "m.onnx", (1, 5, 8), 1) == (1, 5, 8)
    dims[0].dim_value = 4
    with pytest.raises(DeviceError, match="made for batches of 4, not 1: use --device RUNTIME:batch=4"):
        input_shape(opened.SerializeToString(), "m.onnx", (1, 5, 8), 1)
