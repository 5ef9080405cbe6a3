"""Every format: the same proof, a file that is changed fails it, and the card's program runs."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file

from formats_here import EXTRAS, format_here, formats_of
from onceforall.calibrate import evaluate_network, tally
from onceforall.errors import MissingExtraError, VerificationError
from onceforall.export import FORMATS
from onceforall.export.proof import active_logits, compare_logits, prove, reference_of
from onceforall.nn.static import build
from one_export import export_network


@pytest.fixture
def job(sample, config):
    return config.job(sample.arch, sample.network, sample.images)


def proof_of(name, folder, sample, active=None):
    format = FORMATS[name]
    extracted = reference_of(sample.network, sample.images)
    return prove(
        format.files[0],
        format.load(folder, 1),
        sample.images,
        extracted=extracted,
        active=active,
        batches=format.batches,
        int8=format.int8,
    )


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].load_for_many])
def test_a_format_loaded_for_many_images_computes_the_same(sample, job, tmp_path, name):
    format_here(name)
    FORMATS[name].write(tmp_path, job)
    found = FORMATS[name].load_for_many(tmp_path, 1)(sample.images)
    compare_logits(name, reference_of(sample.network, sample.images), [found, FORMATS[name].load(tmp_path, 1)(sample.images)])


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_computes_what_the_network_computes(sample, supernet, job, tmp_path, name):
    format = FORMATS[format_here(name)]
    format.write(tmp_path, job)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(format.files)
    active = active_logits(supernet, sample.arch, sample.network, sample.images)
    proof = proof_of(name, tmp_path, sample, active)
    for found in (proof.extracted, proof.active):
        assert found.images == 64
        if format.int8:
            assert found.top1_agreement >= 0.3  # the network is not trained, so classes nearly tie
            assert found.rounding < found.max_abs_diff < found.tolerance == 0.5 * proof.extracted.largest_logit
        else:
            assert found.top1_agreement == 1.0
            assert found.max_abs_diff <= found.tolerance == 4 * found.rounding
            assert found.float32_error < found.rounding < 1e-5 * found.largest_logit  # rounding hardly moves this network
    through = FORMATS[name].load(tmp_path, 1)
    batches = list(zip(sample.images.split(24), sample.labels.split(24), strict=True))
    accuracy, own = tally((through(x), y) for x, y in batches), evaluate_network(sample.calibrated, batches)
    assert accuracy.images == own.images
    if not format.int8:
        assert (accuracy.top1, accuracy.loss) == (own.top1, pytest.approx(own.loss, rel=1e-4))


def test_the_active_sub_network_is_that_of_the_supernet(sample, supernet):
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    logits = active_logits(supernet, sample.arch, sample.network, sample.images)
    compare_logits("active", reference_of(sample.network, sample.images), [logits])
    for name, value in supernet.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    other = replace(supernet.space.largest(), resolution=sample.arch.resolution)
    assert active_logits(supernet, other, sample.network, sample.images).isnan().any()  # statistics that were not measured


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_an_onnx_file_with_one_changed_weight_fails_with_numbers(sample, job, tmp_path, change):
    FORMATS["onnx"].write(tmp_path, job)
    model = onnx.load(tmp_path / "model.onnx")
    bias = model.graph.initializer[-1]
    values = numpy_helper.to_array(bias).copy()
    values[3] += change
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        VerificationError, match=r"model\.onnx: .*by up to (0\.01|inf), allowed is .*top-1 agrees on .* of 64 images"
    ):
        proof_of("onnx", tmp_path, sample)


def test_changed_weights_fail(sample, job, tmp_path):
    FORMATS["pytorch"].write(tmp_path, job)
    state = load_file(tmp_path / "weights.safetensors")
    state["head.classifier.bias"][3] += 0.01
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(VerificationError, match=r"weights\.safetensors: does not compute"):
        proof_of("pytorch", tmp_path, sample)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("onnx", "pytorch")])
def test_a_file_of_other_images_or_weights_fails(sample, job, tmp_path, name):
    """Written from a network whose last layer answers with the classes in another order."""
    format_here(name)
    other = build(job.plan).eval()
    state = sample.network.state_dict()
    for key in ("head.classifier.weight", "head.classifier.bias"):
        state[key] = state[key].flip(0)
    other.load_state_dict(state)
    FORMATS[name].write(tmp_path, replace(job, network=other))
    with pytest.raises(VerificationError, match="does not compute what the network computes"):
        proof_of(name, tmp_path, sample)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_no_model_is_refused(tmp_path, name):
    format_here(name)
    for file in FORMATS[name].files:
        (tmp_path / file).write_bytes(b"no model")
    with pytest.raises(VerificationError, match=r"cannot (be loaded|load)"):
        FORMATS[name].load(tmp_path, 1)


def test_an_onnx_file_for_one_batch_size_only_fails(sample, job, tmp_path):
    FORMATS["onnx"].write(tmp_path, job)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(VerificationError, match="cannot run it on images of shape"):
        proof_of("onnx", tmp_path, sample)


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].int8])
def test_int8_without_images_to_calibrate_with_is_refused(job, tmp_path, name):
    format_here(name)
    with pytest.raises(VerificationError, match="int8 is calibrated on training images"):
        FORMATS[name].write(tmp_path, replace(job, calibration=None))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].runtime.needs])
def test_a_format_whose_package_is_absent_names_the_extra(sample, tmp_path, monkeypatch, name):
    real, absent = importlib.util.find_spec, FORMATS[name].runtime.needs
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package in absent else real(package))
    with pytest.raises(MissingExtraError, match=rf"onceforall\[{FORMATS[name].runtime.extra}\]"):
        FORMATS[name].require()
    with pytest.raises(MissingExtraError, match=rf"onceforall\[{FORMATS[name].runtime.extra}\]"):
        export_network(tmp_path / "net", **sample.arguments(formats=[name]))
    assert not list(tmp_path.iterdir())
    for file in FORMATS[name].files:
        (tmp_path / file).write_bytes(b"a model")
    with pytest.raises(MissingExtraError, match=rf"onceforall\[{FORMATS[name].runtime.extra}\]"):
        FORMATS[name].load(tmp_path, 1)


def test_model_py_needs_torch_only(sample, job, tmp_path):
    """Run in a process of its own that can import neither onceforall nor safetensors."""
    FORMATS["pytorch"].write(tmp_path, job)
    torch.save(sample.images[:8], tmp_path / "images.pt")
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['onceforall', 'safetensors'])); import torch; from model import load\n"
        "x = torch.load('images.pt', weights_only=True); network = load('weights.safetensors')\n"
        "torch.save([network(x).detach(), network.training], 'logits.pt')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logits, training = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert not training
    compare_logits("model.py", reference_of(sample.network, sample.images[:8]), [logits])


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_card_s_programs_run(sample, tmp_path, monkeypatch, capsys, extra):
    """Executed as a user would, in the folder, on a photograph; compared with the network on the same pixels."""
    folder = tmp_path / "net"
    formats = [name for name in formats_of(extra) if name != "pytorch"]
    size, rng = sample.arch.resolution, np.random.default_rng(0)
    noise = torch.from_numpy((rng.random((32, 3, size, size), np.float32) - 0.3) / np.float32(0.4))  # as the photograph
    export_network(folder, **sample.arguments(formats=formats, images=noise, calibration=noise))
    short = -(-size * 8 // 7)
    pixels = rng.integers(0, 256, (short, short + 20, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg", quality=95)
    decoded = np.asarray(Image.open(folder / "photo.jpg"))
    crop = decoded[(short - size) // 2 :, (short + 20 - size) // 2 :][:size, :size]
    x = torch.from_numpy((crop / 255 - 0.3) / 0.4).float().permute(2, 0, 1)[None]
    expected = reference_of(sample.network, x)
    prepare, *programs = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert len(programs) == len(formats) + 2  # the first is model.py's, the last is onceforall's own
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name, program in zip(["pytorch", *formats], programs, strict=False):
        scope = {}
        exec(prepare + program, scope)
        bound = 0.5 * expected.largest if FORMATS[name].int8 else expected.allowed
        # the card's program prepares the image in its own way, to a rounding of each pixel
        np.testing.assert_allclose(scope["logits"], expected.logits, atol=2 * bound, rtol=0)
        assert capsys.readouterr().out.strip() == f"digit {int(scope['logits'].argmax())}"
    sys.modules.pop("model")
