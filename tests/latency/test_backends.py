"""The settings of each runtime are the same wherever a model is loaded to be timed: profile, card, `ofa measure` and the agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_contract import runtime_here, small_plan

import onceforall
from onceforall.backends import RUNTIMES
from onceforall.backends.common import noise
from onceforall.backends.onnxruntime import ONNXRUNTIME_INT8
from onceforall.common.packages import import_package
from onceforall.export import FORMATS
from onceforall.latency import Device, load_onnx
from onceforall.latency.networks import random_weights
from onceforall.latency.remote import agent
from onceforall.nn.onnx import to_onnx

PLAN = small_plan()
THREADS, BATCH = 2, 3
SHAPE = (BATCH, *PLAN.input_shape)
IMAGES = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
ROOT = Path(onceforall.__file__).parent
OF_OPENVINO = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "PERFORMANCE_HINT", "ENABLE_CPU_PINNING")


@pytest.fixture(scope="module")
def content() -> bytes:
    runtime_here("onnxruntime")
    return to_onnx(PLAN, random_weights(PLAN))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Each session of ONNX Runtime that is made from now on, and its options; quantising makes some too."""
    onnxruntime, made = import_package("onnxruntime", "onnx"), list[tuple[Any, Any]]()
    real = onnxruntime.InferenceSession

    def recorded(model: Any, sess_options: Any, **more: Any) -> Any:
        made.append((real(model, sess_options, **more), sess_options))
        return made[-1][0]

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    return made


def settings_of(session: Any, options: Any) -> dict[str, Any]:
    names = ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "graph_optimization_level", "log_severity_level")
    entries = ("session.intra_op.allow_spinning", "session.force_spinning_stop")
    found = {name: getattr(options, name) for name in names}
    found |= {entry: options.get_session_config_entry(entry) for entry in entries}
    return {**found, "providers": session.get_providers(), "batch": session.get_inputs()[0].shape[0]}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The properties of each model that OpenVINO compiles from now on."""
    runtime_here("openvino")
    openvino, made = import_package("openvino", "openvino"), list[dict[str, str]]()

    class Recorded(openvino.Core):  # type: ignore[misc,name-defined]
        def compile_model(self, *arguments: Any, **more: Any) -> Any:
            model = super().compile_model(*arguments, **more)
            properties = {name: str(model.get_property(name)) for name in OF_OPENVINO}
            made.append({**properties, "shape": str(model.input(0).partial_shape)})
            return model

    monkeypatch.setattr(openvino, "Core", Recorded)
    return made


def test_onnx_runtime(content: bytes, sessions: list[tuple[Any, Any]], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "model.int8.onnx").write_bytes(ONNXRUNTIME_INT8.model_of(content, noise(PLAN.input_shape)))
    int8_runtime = RUNTIMES["onnxruntime-int8"].load(PLAN, random_weights(PLAN), threads=THREADS, batch=BATCH)
    ways: dict[str, Callable[[], object]] = {
        "profile, int8": int8_runtime.bind(IMAGES),
        "profile": RUNTIMES["onnxruntime"].load(PLAN, random_weights(PLAN), threads=THREADS, batch=BATCH).bind(IMAGES),
        "card": FORMATS["onnx"].ready(tmp_path, THREADS, IMAGES),
        "card, int8": FORMATS["onnx-int8"].ready(tmp_path, THREADS, IMAGES),
        "ofa measure": load_onnx(content, PLAN.input_shape, Device("onnxruntime", THREADS, BATCH)).bind(IMAGES),
        "agent": agent._load(RUNTIMES["onnxruntime"].there[-1], tmp_path / "model.onnx", THREADS, SHAPE),
        "agent, int8": agent._load(RUNTIMES["onnxruntime-int8"].there[-1], tmp_path / "model.int8.onnx", THREADS, SHAPE),
    }
    ours = [settings_of(*made) for made in sessions[-len(ways) :]]
    assert all(found == ours[0] for found in ours), dict(zip(ways, ours, strict=True))
    assert (ours[0]["intra_op_num_threads"], ours[0]["batch"]) == (THREADS, BATCH)
    assert {np.asarray(function()).shape for function in ways.values()} == {(BATCH, 10)}
    FORMATS["onnx"].load(tmp_path, THREADS)  # for the proof and for accuracies, of any batch size
    of_any_batch = settings_of(*sessions[-1])
    assert of_any_batch["batch"] != BATCH
    assert {**of_any_batch, "batch": BATCH} == ours[0]


def test_openvino(content: bytes, compiled: list[dict[str, str]], tmp_path: Path) -> None:
    openvino = import_package("openvino", "openvino")
    (tmp_path / "model.onnx").write_bytes(content)
    openvino.save_model(RUNTIMES["openvino"].model_of(content), tmp_path / "model.xml", compress_to_fp16=False)
    RUNTIMES["openvino"].load(PLAN, random_weights(PLAN), threads=THREADS, batch=BATCH).bind(IMAGES)()
    FORMATS["openvino"].ready(tmp_path, THREADS, IMAGES)()
    load_onnx(content, PLAN.input_shape, Device("openvino", THREADS, BATCH)).bind(IMAGES)()
    agent._load(RUNTIMES["openvino"].there[-1], tmp_path / "model.onnx", THREADS, SHAPE)()
    assert len(compiled) == 4
    assert all(found == compiled[0] for found in compiled), compiled
    assert compiled[0]["INFERENCE_NUM_THREADS"] == str(THREADS)
    assert compiled[0]["shape"] == str(list(SHAPE)).replace(" ", "")
    FORMATS["openvino"].load(tmp_path, THREADS)
    assert compiled[-1] == {**compiled[0], "shape": compiled[-1]["shape"]}


def test_openvino_int8(compiled: list[dict[str, str]], content: bytes, tmp_path: Path) -> None:
    runtime_here("openvino-int8")
    openvino = import_package("openvino", "openvino")
    model = RUNTIMES["openvino-int8"].model_of(content, noise(PLAN.input_shape))
    openvino.save_model(model, tmp_path / "model.int8.xml", compress_to_fp16=False)
    before = len(compiled)
    FORMATS["openvino-int8"].ready(tmp_path, THREADS, IMAGES)()
    load_onnx(content, PLAN.input_shape, Device("openvino", THREADS, BATCH))
    assert len(compiled) == before + 2
    assert compiled[-1] == compiled[-2]


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("SessionOptions(", "backends"),
        ("allow_spinning", "backends"),
        ("INFERENCE_NUM_THREADS", "backends"),
        ("ENABLE_CPU_PINNING", "backends"),
        ("inference_mode(", "backends"),
        ("cpu_count(", "common/processors.py"),
    ],
)
def test_no_second_place(setting: str, where: str) -> None:
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if setting in path.read_text(encoding="utf-8")]
    assert files
    assert all(path.as_posix().startswith(where) for path in files), files
