"""Other programs read the ONNX files. One that is not installed is skipped: `pip install` or `npm install` brings it."""

import os
import subprocess
import time

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import onceforall
from onceforall.backends.onnxruntime import ONNXRUNTIME_INT8
from onceforall.common.onnx_options import HARD_SWISH, OPSET, OPSETS
from onceforall.errors import MissingExtraError, VerificationError
from onceforall.export import READERS, OnnxOptions, readers_of
from onceforall.export import readers as module
from onceforall.export.proof import logits_of, reference_of
from onceforall.export.readers import ReaderResult, read_elsewhere_too
from onceforall.nn.onnx import to_onnx
from onceforall.nn.static import build
from one_export import export_network

HERE = [key for key, reader in READERS.items() if reader.missing() is None]
SPACES = {
    "squeeze-excite": onceforall.space("mobilenet_v3", width=0.25, resolutions=(20, 28), strides=(1, 1, 2, 2, 1, 1, 2)),
    "proxyless": onceforall.space("proxyless", width=0.25, resolutions=(32, 41)),
    "resnet": onceforall.space("resnet50d", width=0.125, resolutions=(33, 49)),
}
BATCHES = {None: (1, 3), 4: (4,)}


def tamed(plan, seed):
    """A network whose weights and statistics are random, but do not let rounding grow."""
    network, generator = build(plan), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name or ("norm" in name and name.endswith("weight")):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.dtype == torch.float32 and value.ndim > 1:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
            elif value.dtype == torch.float32:
                value.normal_(0, 0.3, generator=generator)
    return network.eval()


def read(tmp_path, plan, network, *, readers, options=OnnxOptions(), int8=False, images=12, change=None):  # noqa: B008
    """What programs make of the network's file."""
    x = torch.randn((images, *plan.input_shape), generator=torch.Generator().manual_seed(0))
    content = to_onnx(plan, network, batch=options.batch, opset=options.opset, softmax=options.softmax)
    if int8:
        content = ONNXRUNTIME_INT8.model_of(content, x.numpy())
    if change is not None:
        model = onnx.load_from_string(content)
        change(model)
        content = model.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    expected = reference_of(network, x)
    expected = expected.probabilities("softmax") if options.softmax else expected
    found = read_elsewhere_too(tmp_path / "model.onnx", x, expected, readers=readers, batches=BATCHES[options.batch], int8=int8)
    assert [reading.reader for reading in found] == list(READERS)
    return {reading.reader: reading for reading in found if reading.reader in readers}


def beta(model):
    """Write ONNX's default out, as versions before 0.2 did."""
    for node in model.graph.node:
        if node.op_type == "HardSigmoid":
            node.attribute.append(helper.make_attribute("beta", 0.5))


@pytest.mark.parametrize("which", ["largest", "smallest", "random"])
@pytest.mark.parametrize("family", SPACES)
@pytest.mark.parametrize("reader", READERS)
def test_programs_compute_what_the_network_computes(tmp_path, reader, family, which):
    skip_without(reader)
    space = SPACES[family]
    archs = {"largest": space.largest(), "smallest": space.smallest(), "random": space.sample(np.random.default_rng(1))}
    plan = space.lower(archs[which], 10)
    found = read(tmp_path, plan, tamed(plan, 1), readers=[reader])[reader]
    assert (found.state, found.warning) == ("agrees", None), found
    assert found.batches == ((1,) if reader == "ncnn" else (1, 3))
    assert found.max_abs_diff <= found.tolerance
    assert found.top1_agreement == 1.0
    assert found.version[0].isdigit()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("squeeze-excite", OnnxOptions(OPSETS[0], 4, True)),
        ("squeeze-excite", OnnxOptions(HARD_SWISH, None, True)),
        ("proxyless", OnnxOptions(OPSETS[0], None, True)),
        ("resnet", OnnxOptions(17, 4)),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_programs_read_files_with_options(tmp_path, reader, family, options):
    skip_without(reader)
    plan = SPACES[family].lower(SPACES[family].sample(np.random.default_rng(2)), 10)
    found = read(tmp_path, plan, tamed(plan, 2), readers=[reader], options=options)[reader]
    if reader == "ncnn" and options.batch is not None:
        assert (found.state, found.why) == ("refuses", "ncnn takes one image per call, not 4")
    else:
        assert (found.state, found.warning) == ("agrees", None), found


@pytest.mark.parametrize("reader", ["openvino", "onnxruntime-web"])
def test_int8_files_are_near_enough(tmp_path, reader):
    skip_without(reader)
    plan = SPACES["squeeze-excite"].lower(SPACES["squeeze-excite"].smallest(), 10)
    found = read(tmp_path, plan, tamed(plan, 3), readers=[reader], int8=True)[reader]
    assert found.state == "agrees", found


def test_opencv_takes_a_gate_with_beta_for_a_hard_swish(tmp_path):
    """The bug that is written around; when OpenCV mends it, this says so."""
    skip_without("opencv")
    plan = SPACES["squeeze-excite"].lower(SPACES["squeeze-excite"].smallest(), 10)
    found = read(tmp_path, plan, tamed(plan, 1), readers=["opencv"], change=beta)["opencv"]
    assert found.state == "differs"
    assert found.max_abs_diff > 100 * 1e-4
    assert "OpenCV dnn" in found.warning
    assert "computes something else" in found.warning
    assert "do not use this file there" in found.warning


def test_a_program_that_refuses_dies_or_hangs_is_told_in_one_line(tmp_path, monkeypatch):
    """A real process each time, in place of the program."""
    plan = SPACES["squeeze-excite"].lower(SPACES["squeeze-excite"].smallest(), 10)
    network = tamed(plan, 1)
    for program, limit, why in (
        ("raise SystemExit('no such operator')", 60.0, "it ended with code 1: no such operator"),
        ("import os; os.abort()", 60.0, "it crashed with SIGABRT"),
        ("import time; print(1, flush=True); time.sleep(600)", 0.5, "it gave no answer within 0.5 s"),
    ):
        (tmp_path / "program.py").write_text(program)
        monkeypatch.setattr(module.read_elsewhere, "__file__", str(tmp_path / "program.py"))
        monkeypatch.setattr(module, "LIMIT_S", limit)
        found = read(tmp_path, plan, network, readers=["opencv"])["opencv"]
        assert (found.state, found.why, found.max_abs_diff) == ("refuses", why, None)
        assert found.warning == f"model.onnx: OpenCV dnn cannot run it ({why}): do not use this file there"


def test_what_a_program_started_ends_with_it(tmp_path, monkeypatch):
    plan = SPACES["squeeze-excite"].lower(SPACES["squeeze-excite"].smallest(), 10)
    (tmp_path / "program.py").write_text(
        "import subprocess, pathlib\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\nchild.wait()"
    )
    monkeypatch.setattr(module.read_elsewhere, "__file__", str(tmp_path / "program.py"))
    monkeypatch.setattr(module, "LIMIT_S", 5.0)
    read(tmp_path, plan, tamed(plan, 1), readers=["opencv"])
    command, end = ["ps", "-o", "stat=", "-p", (tmp_path / "pid").read_text()], time.monotonic() + 10
    while (state := subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[:1]) not in ("", "Z"):
        assert time.monotonic() < end, state  # a killed process ends once it is scheduled, which takes a moment on a busy machine
        time.sleep(0.05)


def test_some_batch_sizes_only(tmp_path, monkeypatch):
    """Answers of a program that takes one image a call."""
    plan = SPACES["squeeze-excite"].lower(SPACES["squeeze-excite"].smallest(), 10)
    program = """
import numpy as np, pathlib, sys, onnxruntime
key, model, images, into, sizes = sys.argv[1:]
x, into = np.load(images), pathlib.Path(into)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
(into / "version.txt").write_text("4.5.5")
np.save(into / "1.npy", session.run(None, {"images": x})[0])
(into / "3.txt").write_text("one image only")
"""
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(module.read_elsewhere, "__file__", str(tmp_path / "program.py"))
    found = read(tmp_path, plan, tamed(plan, 1), readers=["opencv"])["opencv"]
    assert (found.state, found.batches) == ("agrees", (1,))
    assert found.warning == "model.onnx: OpenCV dnn 4.5.5 agrees in batches of 1 only (3: one image only)"


def test_readers_that_are_asked_for_must_be_there(monkeypatch):
    with pytest.raises(
        VerificationError, match=r"unknown reader 'cv': choose from opencv, openvino, ncnn, onnxruntime-web, or none"
    ):
        readers_of(["cv"])
    assert readers_of([]) == []
    assert readers_of(None) == HERE
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert readers_of(None) == []
    with pytest.raises(MissingExtraError, match=r"'cv2'.*onceforall\[readers\]"):
        readers_of(["opencv"])
    with pytest.raises(VerificationError, match=r"'onnxruntime-web' needs 'node', which was not found: npm install"):
        readers_of(["onnxruntime-web"])


def test_the_card_tells_what_was_tried_and_what_not(sample, tmp_path, monkeypatch):
    def told(path, images, expected, *, readers, batches, int8):
        torch.testing.assert_close(expected.logits.float(), logits_of(sample.network, sample.images), rtol=1e-4, atol=1e-4)
        assert (readers, batches, int8) == (["opencv", "ncnn"], (1, 7, 64), False)
        return [
            ReaderResult(path.name, "opencv", "4.14.0", "differs", (), 0.57, 5.6e-5, 0.4, "logits differ by up to 0.57"),
            ReaderResult(path.name, "openvino"),
            ReaderResult(path.name, "ncnn", "1.0", "agrees", (1,), 1e-6, 5.6e-5, 1.0),
            ReaderResult(path.name, "onnxruntime-web"),
        ]

    monkeypatch.setattr("onceforall.export.folder.read_elsewhere_too", told)
    monkeypatch.setattr("onceforall.export.folder.readers_of", lambda wanted: ["opencv", "ncnn"])
    found = export_network(tmp_path / "net", **sample.arguments())
    card = (tmp_path / "net" / "README.md").read_text()
    assert [reading.state for reading in found.readings] == ["differs", "not tried", "agrees", "not tried"]
    assert "| `model.onnx` | OpenCV dnn 4.14.0 | **differs** | 0.57 | 5.6e-05 | 40.0 % |" in card
    assert "| `model.onnx` | ncnn (through pnnx) 1.0 | agrees, in batches of 1 | 1e-06 | 5.6e-05 | 100.0 % |" in card
    assert (
        "model.onnx: OpenCV dnn 4.14.0 computes something else (logits differ by up to 0.57): do not use this file there." in card
    )
    assert "Not tried: OpenVINO (`pip install openvino`), onnxruntime-web (`npm install onnxruntime-web`)." in card


def test_an_export_without_onnx_has_no_readers(sample, tmp_path):
    found = export_network(tmp_path / "net", **sample.arguments(formats=[]))
    assert not found.readings
    assert "Not tried" not in (tmp_path / "net" / "README.md").read_text()


@pytest.mark.parametrize("version", ["1.10", "now"])
def test_an_old_onnx_runtime_reads_the_default_file(tmp_path, version):
    """ONCEFORALL_OLD_PYTHON is a Python with onnxruntime 1.10, which is the last for some boards."""
    python = os.environ.get("ONCEFORALL_OLD_PYTHON") if version == "1.10" else module.sys.executable
    if not python:  # .ci/run gives "" where it found none
        pytest.skip("ONCEFORALL_OLD_PYTHON names no Python with an old onnxruntime")
    program = """
import sys, numpy, onnxruntime
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": numpy.load(name + ".npy")})[0]
    numpy.save(name + ".found.npy", found)
"""
    expected = {}
    for family, space in SPACES.items():
        plan = space.lower(space.largest(), 10)
        network, x = tamed(plan, 4), torch.randn((2, *plan.input_shape), generator=torch.Generator().manual_seed(4))
        (tmp_path / f"{family}.onnx").write_bytes(to_onnx(plan, network, opset=OPSET))
        np.save(tmp_path / f"{family}.npy", x.numpy())
        expected[family] = logits_of(network, x)
    done = subprocess.run([python, "-c", program, *expected], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for family, logits in expected.items():
        found = torch.from_numpy(np.load(tmp_path / f"{family}.found.npy"))
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


def skip_without(reader):
    if reader not in HERE:
        pytest.skip(f"{READERS[reader].name} is not installed: {READERS[reader].install}")
