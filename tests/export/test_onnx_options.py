"""Options of the files that are made from an ONNX graph: opset, batch size, softmax."""

import copy
import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from onceforall.backends.format import in_batches
from onceforall.backends.onnxruntime import require_readable
from onceforall.errors import DeviceError, FileError, VerificationError
from onceforall.export import FORMATS, ExportConfig, OnnxOptions, load
from onceforall.export.program import PHOTO, Program, run_programs
from onceforall.export.proof import logits_of
from one_export import export_network


@pytest.mark.parametrize(
    "options", [OnnxOptions(11, 1, True), OnnxOptions(17, 5, False), OnnxOptions(10, 100, True), OnnxOptions()]
)
def test_an_export_with_options(sample, tmp_path, options):
    """Batches of 5 and of 100 do not divide the 64 images of the proof."""
    exported = export_network(tmp_path / "net", **sample.arguments(onnx=options, readers=[]))
    assert exported.proofs["onnx"].extracted.images == 64
    data = json.loads((exported.folder / "config.json").read_text())
    assert data["onnx"] == {"opset": options.opset, "batch": options.batch, "softmax": options.softmax}
    assert ExportConfig.from_json(data).onnx == options
    model = onnx.load(exported.folder / "model.onnx")
    assert model.opset_import[0].version == options.opset
    card = (exported.folder / "README.md").read_text()
    gives = "probabilities" if options.softmax else "logits"
    assert (
        f"| onnx | {options.batch or 'any'} | `images`; metadata `arch`, `config`, gives `{gives}`; opset {options.opset} |" in card
    )
    assert ("or probabilities (softmax) for model.onnx" in card) == options.softmax
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx", providers=["CPUExecutionProvider"])
    x = sample.images[: options.batch or 3]
    x = x.repeat(-(-(options.batch or 1) // len(x)), 1, 1, 1)[: options.batch or 3]
    (found,) = session.run([gives], {"images": x.numpy()})
    expected = logits_of(sample.network, x)
    torch.testing.assert_close(torch.from_numpy(found), expected.softmax(1) if options.softmax else expected, rtol=1e-3, atol=1e-4)
    load(exported.folder)


@pytest.mark.parametrize("options", [OnnxOptions(13, 3, True), OnnxOptions(13, 1), OnnxOptions(13, None, True)])
def test_the_card_s_programs_run_with_options(sample, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    FORMATS["onnx"].write(tmp_path, job_of(sample, options))
    scope = {"x": sample.images[:1].numpy()}
    exec(FORMATS["onnx"].usage_of(options), scope)
    expected = logits_of(sample.network, sample.images[:1])
    expected = expected.softmax(1) if options.softmax else expected
    np.testing.assert_allclose(scope["logits"][:1], expected, rtol=1e-3, atol=1e-4)


def test_int8_keeps_the_softmax_in_float(sample, tmp_path):
    options = OnnxOptions(batch=4, softmax=True)
    exported = export_network(
        tmp_path / "net", **sample.arguments(formats=["onnx-int8"], onnx=options, readers=[], calibration=sample.images)
    )
    found = in_batches(FORMATS["onnx-int8"].load(exported.folder, 1), 4)(sample.images[:6])
    torch.testing.assert_close(found.sum(1), torch.ones(6), rtol=1e-5, atol=1e-5)


def test_a_wrong_softmax_fails_the_proof(sample, tmp_path, monkeypatch):
    """The file gives logits where probabilities were asked for."""
    convert = FORMATS["onnx"].convert
    wrong = replace(FORMATS["onnx"], convert=lambda job: convert(job_of(sample, OnnxOptions())))
    monkeypatch.setitem(FORMATS, "onnx", wrong)
    with pytest.raises(VerificationError, match=r"model\.onnx: does not compute what the network computes"):
        export_network(tmp_path / "net", **sample.arguments(onnx=OnnxOptions(softmax=True), readers=[]))


@pytest.mark.parametrize("format", ["onnx", "onnx-int8"])
def test_a_softmax_does_not_hide_wrong_logits(sample, tmp_path, monkeypatch, format):
    """Of a network that is sure of every image, twice the logits give the same probabilities."""
    with torch.no_grad():
        for value in sample.network.head.classifier.parameters():
            value.mul_(0)
        sample.network.head.classifier.bias[3] = 60.0
    convert = FORMATS[format].convert

    def doubled(job):
        network = copy.deepcopy(job.network)
        with torch.no_grad():
            network.head.classifier.bias.mul_(2)
        return convert(replace(job, network=network))

    arguments = sample.arguments(formats=[format], onnx=OnnxOptions(softmax=True), readers=[], calibration=sample.images)
    export_network(tmp_path / "right", **arguments)
    monkeypatch.setitem(FORMATS, format, replace(FORMATS[format], convert=doubled))
    with pytest.raises(VerificationError, match="does not compute what the network computes: logits differ by up to 60"):
        export_network(tmp_path / "wrong", **arguments)


def test_the_card_says_what_was_proven_of_a_softmax(sample, tmp_path):
    found = export_network(tmp_path / "net", **sample.arguments(onnx=OnnxOptions(softmax=True), readers=[]))
    card = (tmp_path / "net" / "README.md").read_text()
    assert "The logits compared for `model.onnx` come from the same graph without its softmax" in card
    assert card.count("of 64 images by chance") == (found.proofs["pytorch"].chance is not None)
    assert found.proofs["onnx"].extracted.largest_logit == found.proofs["pytorch"].extracted.largest_logit


@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_images_are_filled_up_to_whole_batches(n):
    sizes = []

    def run(x):
        sizes.append(len(x))
        return 2 * x

    x = torch.arange(3.0 * n).view(n, 3)
    torch.testing.assert_close(in_batches(run, 4)(x), 2 * x)
    assert set(sizes) == {4}
    assert in_batches(run, None) is run


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"opset": 9}, "opset 9: choose from 10 to 28; the default is 13"),
        ({"opset": 29}, "opset 29: choose from 10 to 28"),
        ({"batch": 0}, "batch 0: choose from 1 to 1024 images per call, or leave it out for any number"),
        ({"batch": 1025}, "batch 1025: choose from 1 to 1024"),
    ],
)
def test_values_that_are_not_allowed(values, message):
    with pytest.raises(VerificationError, match=message):
        OnnxOptions(**values)


def test_configs_of_earlier_versions_and_damaged_ones(config):
    old = json.loads(json.dumps(config.to_json()))
    assert "onnx" not in old
    assert ExportConfig.from_json(old) == config
    good = json.loads(json.dumps(replace(config, onnx=OnnxOptions(11, 2, True)).to_json()))
    assert ExportConfig.from_json(good).onnx == OnnxOptions(11, 2, True)
    for wrong, message in (
        ({"opset": 11}, "exactly opset, batch and softmax"),
        ({"opset": "11", "batch": None, "softmax": False}, "opset is a number"),
        ({"opset": 11, "batch": True, "softmax": False}, "batch a number or null"),
        ({"opset": 9, "batch": None, "softmax": False}, "opset 9: choose from"),
    ):
        with pytest.raises(FileError, match=message):
            ExportConfig.from_json({**good, "onnx": wrong})


def test_int8_in_an_older_opset_is_refused(sample, tmp_path):
    arguments = sample.arguments(formats=["onnx-int8"], onnx=OnnxOptions(opset=12), calibration=sample.images)
    with pytest.raises(VerificationError, match=r"not 12: choose a later opset, or omit onnx-int8"):
        export_network(tmp_path / "net", **arguments)
    assert not list(tmp_path.iterdir())


def job_of(sample, options):
    config = ExportConfig(sample.space, tuple(f"digit {i}" for i in range(10)), sample.arguments()["preprocessing"], options)
    return config.job(sample.arch, sample.network, sample.images)


def test_an_opset_that_is_not_known_here_is_refused_before_anything_is_written(monkeypatch):
    require_readable(OnnxOptions())
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 12)
    with pytest.raises(DeviceError, match=r"opset 13: the installed onnx .* supports up to 12: choose a lower one, or update onnx"):
        require_readable(OnnxOptions())
    monkeypatch.undo()
    monkeypatch.setattr("onceforall.backends.onnxruntime.session", lambda *_, **__: 1 / 0)
    with pytest.raises(VerificationError, match=r"opset 13: the installed ONNX Runtime .* cannot read it"):
        require_readable(OnnxOptions())


def test_which_files_take_a_batch():
    free, four = OnnxOptions(), OnnxOptions(batch=4)
    assert [FORMATS["onnx"].takes_batch(n, four) for n in (1, 4)] == [False, True]
    assert FORMATS["onnx"].takes_batch(5, free)
    assert FORMATS["pytorch"].takes_batch(5, four)
    assert [FORMATS["executorch"].takes_batch(n, four) for n in (1, 4)] == [True, False]


def test_a_fixed_batch_is_filled_with_other_photographs(tmp_path):
    photos = [tmp_path / str(n) for n in range(5)]
    usage = "calls = []\nlogits = (calls.append(len(x)), x)[1]"
    image = f"x = np.full((1, 2), int({PHOTO}[-1]))"
    programs = {str(batch): Program("import numpy as np", image, usage, batch) for batch in (1, 2, 3, 8)}
    for found in run_programs(tmp_path, programs, photos).values():
        assert found.tolist() == [[n, n] for n in range(5)]
