"""The contract of every runtime, and what each lacks. What the machine lacks is skipped."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from runtime_contract import SLOW, busy_threads, difference, heavy_plan, runtime_here, small_plan, trained

import onceforall
from onceforall.backends import RUNTIMES
from onceforall.backends.common import Images, Runtime
from onceforall.backends.cuda import GpuReference
from onceforall.backends.onnxruntime import ONNXRUNTIME_INT8
from onceforall.common.packages import import_package
from onceforall.common.processors import processors
from onceforall.errors import CheckpointError, DeviceError, MissingExtraError, OnceForAllError, StatisticsError
from onceforall.latency import Device, load_onnx, measure_networks, stand_in
from onceforall.latency.networks import all_ready, random_weights, ready
from onceforall.nn.onnx import to_onnx
from onceforall.nn.static import build
from onceforall.plan import Plan

SPACE = onceforall.space("mobilenet_v3", width=0.35, resolutions=(20, 27), strides=(1, 1, 2, 2, 1, 1, 2))
PLAN = SPACE.lower(SPACE.largest(), 7)
LINUX = Path("/proc/self/task").exists()


def calibrated(runtime: Runtime, images: Images) -> Runtime:
    """The runtime, with real images to quantise with if it quantises."""
    return replace(runtime, calibration=images) if runtime.quantise is not None else runtime


@pytest.mark.parametrize(("name", "batch"), [(name, batch) for name in RUNTIMES for batch in ((16,) if name in SLOW else (1, 16))])
def test_contract(name: str, batch: int, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = calibrated(runtime_here(name), trained().calibration)
    plan, network, _, images, expected = trained()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    capfd.readouterr()
    process = _process()
    function = runtime.load(plan, network.state_dict(), threads=1, batch=batch)

    given = images[:32].copy()
    groups = [given[i : i + batch] for i in range(0, len(given), batch)]
    logits = [function(group) for group in groups]  # all are kept: none may be overwritten by the next call
    assert {group.shape for group in logits} == {(batch, 10)}
    assert {group.dtype for group in logits} == {np.dtype(np.float32)}
    assert difference(np.concatenate(logits), expected[:32]) <= runtime.tolerance
    np.testing.assert_array_equal(given, images[:32])
    function.bind(groups[1])()
    np.testing.assert_array_equal(function(groups[0]), logits[0])

    assert _process() == process
    assert capfd.readouterr() == ("", "")  # libraries in C++ write there
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.skipif(not LINUX, reason="counts threads as Linux lists them")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [name for name in RUNTIMES if not RUNTIMES[name].gpu])
def test_computes_with_the_threads_asked_for(name: str, threads: int) -> None:
    runtime = runtime_here(name)
    plan = heavy_plan()
    function = runtime.load(plan, random_weights(plan), threads=threads, batch=16)
    assert busy_threads(function, np.ones((16, *plan.input_shape), np.float32), threads) == threads


def _process() -> tuple[object, ...]:
    """Settings of the process that a runtime might change."""
    return torch.get_num_threads(), torch.is_grad_enabled(), dict(os.environ), sys.stdout, Path.cwd()


@pytest.mark.parametrize("name", [name for name in RUNTIMES if name not in SLOW])
def test_pieces_run_alone(name: str) -> None:
    runtime = runtime_here(name)
    for segment in PLAN.segments:
        piece = PLAN.piece(segment.name)
        images = np.ones((1, *piece.input_shape), np.float32)
        actual = runtime.load(piece, random_weights(piece), threads=1, batch=1)(images)
        assert actual.shape == (1, *piece.output_shape)
        assert np.isfinite(actual).all()


@pytest.mark.parametrize("name", RUNTIMES)
def test_network_of_another_plan_is_refused_in_one_line(name: str) -> None:
    runtime = runtime_here(name)
    with pytest.raises(OnceForAllError) as caught:
        runtime.load(PLAN.piece("stages.1.0"), random_weights(small_plan()), threads=1, batch=1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 30


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_statistics_that_are_not_finite_are_refused(runtime: str) -> None:
    network = stand_in(PLAN)
    network.get_submodule("stem.first.norm").get_buffer("running_mean").fill_(torch.nan)
    with pytest.raises(StatisticsError, match=r"stem.first.norm.running_mean holds values .* recalibrate"):
        ready(PLAN, network, Device(runtime))


def test_more_threads_than_processors_are_refused() -> None:
    have = processors()
    with pytest.raises(
        DeviceError, match=f"threads is {have + 1}, this machine has {os.cpu_count()} processor.*: use at most {have} thread"
    ):
        ready(PLAN, stand_in(PLAN), Device("pytorch", threads=have + 1))
    with pytest.raises(DeviceError, match=f"threads is {have + 1}, "):
        load_onnx(b"", (3, 8, 8), Device("onnxruntime", threads=have + 1))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_several_are_made_ready_in_their_order(name: str) -> None:
    """Also where that takes several threads; an error in one of them comes out."""
    runtime_here(name)
    pieces = [PLAN.piece(segment.name) for segment in PLAN.segments]
    given = [(piece, None if i % 2 else stand_in(piece)) for i, piece in enumerate(pieces)]
    for piece, function in zip(pieces, all_ready(given, Device(name)), strict=True):
        expected = ready(piece, random_weights(piece), Device(name))()
        np.testing.assert_allclose(_first(function()), _first(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError, match="not built from this plan"):
        all_ready([*given, (pieces[0], random_weights(pieces[1]))], Device(name))


def _first(outputs: Any) -> Images:
    """OpenVINO gives all outputs, ONNX Runtime the first."""
    return np.asarray(outputs if isinstance(outputs, np.ndarray) else outputs[0])


def test_random_weights_are_those_of_a_network_of_the_plan() -> None:
    made, network = random_weights(PLAN), build(PLAN).state_dict()
    own = {name: value for name, value in network.items() if not name.endswith("num_batches_tracked")}
    assert {name: (v.shape, v.dtype) for name, v in made.items()} == {name: (v.shape, v.dtype) for name, v in own.items()}
    assert all(value.abs().min() > 1e-30 and value.abs().max() < 10 for value in made.values()), "no denormal numbers"


def test_executorch_does_not_pull_its_threads_from_under_a_network() -> None:
    runtime = runtime_here("executorch")
    piece = small_plan().piece("head")
    first = runtime.load(piece, random_weights(piece), threads=1, batch=1)
    with pytest.raises(
        DeviceError, match=r"threads is 2, but ExecuTorch has loaded networks with 1, and .* release those networks first"
    ):
        runtime.load(piece, random_weights(piece), threads=2, batch=1)
    assert np.isfinite(first(np.ones((1, *piece.input_shape), np.float32))).all()


def test_onnxruntime_refuses_what_is_no_model() -> None:
    with pytest.raises(DeviceError, match=r"^ONNX Runtime cannot load the model: .*$"):
        RUNTIMES["onnxruntime"].load_onnx(b"no model", threads=1, shape=(1, 3, 8, 8))
    with pytest.raises(DeviceError, match=r"^ONNX Runtime cannot quantize the model: .*$"):
        ONNXRUNTIME_INT8.model_of(b"no model", trained().calibration)


def test_openvino_refuses_what_is_no_model() -> None:
    runtime_here("openvino")
    with pytest.raises(DeviceError, match=r"^OpenVINO cannot read the model: .*$"):
        RUNTIMES["openvino"].load_onnx(b"no model", threads=1, shape=(1, 3, 8, 8))
    with pytest.raises(DeviceError, match=r"^OpenVINO cannot load the model: .*$"):
        RUNTIMES["openvino"].opened(Path("no model"), threads=1, shape=(1, 3, 8, 8))


@pytest.mark.parametrize("plan", [PLAN, small_plan()])
def test_int8_bytes_are_those_of_a_quantised_file(plan: Plan) -> None:
    """Of weights as onnxruntime's tool writes them, and one bias and scale for each channel, though a few channels have no bias."""
    runtime_here("onnxruntime-int8")
    model = onnx.load_from_string(
        ONNXRUNTIME_INT8.model_of(to_onnx(plan, stand_in(plan)), np.zeros((1, *plan.input_shape), np.float32))
    )
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [t for t in tensors if t.dtype == np.int8 and t.ndim > 1]
    biases = sum(t.size for t in tensors if t.dtype == np.int32 and t.any())  # zero points are 0
    channels = sum(t.shape[0] for t in weights)
    assert sum(segment.int8_bytes for segment in plan.segments) == sum(t.size for t in weights) + 8 * channels
    assert 0.9 * channels < biases <= channels


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
def test_images_of_another_shape_to_quantise_with(name: str) -> None:
    runtime = calibrated(runtime_here(name), np.ones((4, 1, 5, 5), np.float32))
    with pytest.raises(DeviceError, match=r"^(ONNX Runtime|OpenVINO) cannot quantize the model: .*$"):
        runtime.load(small_plan(), trained().network.state_dict(), threads=1, batch=1)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("onnxruntime", "onnxruntime", "onnx"),
        ("onnxruntime-int8", "onnx", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("openvino-int8", "nncf", "openvino"),
        ("executorch", "executorch", "executorch"),
        ("litert", "litert_torch", "litert"),
    ],
)
def test_missing_packages_name_the_extra(name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^this needs the package '{package}', which is not installed: pip install 'onceforall\[{extra}\]'$"
    with pytest.raises(MissingExtraError, match=message):
        RUNTIMES[name].hardware()
    with pytest.raises(MissingExtraError, match=message):
        RUNTIMES[name].load(PLAN, random_weights(PLAN), threads=1, batch=1)


def test_a_package_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn_runtime.py").write_text("raise ImportError('libtorn.so:\\ncannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DeviceError, match=r"^the package 'torn_runtime' is installed but cannot be imported: libtorn.so: cannot open"
    ):
        import_package("torn_runtime", "torn")


def test_aotinductor_without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceError, match="needs a C\\+\\+ compiler, and 'no-such-compiler' was not found: install one"):
        RUNTIMES["aotinductor"].load(PLAN, random_weights(PLAN), threads=1, batch=1)


@pytest.mark.parametrize(("name", "message"), [("cuda", "needs an NVIDIA GPU with its driver"), ("tensorrt", "NVIDIA GPU")])
def test_gpus(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match="threads is 2, but one thread launches all work on a GPU"):
        RUNTIMES[name].load(PLAN, random_weights(PLAN), threads=2, batch=1)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match=message) as caught:
            RUNTIMES[name].load(PLAN, random_weights(PLAN), threads=1, batch=1)
        assert "\n" not in str(caught.value)


def test_reference_of_a_gpu() -> None:
    """On the processor here: it computes what it says, the same in each call."""
    kernel = GpuReference("cpu")
    for _ in range(2):
        kernel()
        assert torch.allclose(kernel._b, torch.full((512, 512), 1 / 512))
    if not torch.cuda.is_available():
        plan = small_plan()
        with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
            measure_networks([(plan, stand_in(plan))], Device("cuda"))
