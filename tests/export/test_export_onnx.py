import builtins

import onnx
import pytest
import torch
from onnx import numpy_helper

from onceforall.calibrate import evaluate
from onceforall.errors import MissingExtraError, VerificationError
from onceforall.export import onnx_top1, verify_onnx
from onceforall.export.onnx import compare
from onceforall.nn.onnx import to_onnx


@pytest.fixture
def path(sample, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(sample.space.lower(sample.arch, 10), sample.network))
    return file


def test_a_true_file_passes_with_room_to_spare(sample, path):
    proof = verify_onnx(path, sample.network, sample.images)
    assert proof.images == 64
    assert proof.top1_agreement == 1.0
    assert proof.max_abs_diff < proof.tolerance / 3
    assert proof.tolerance == pytest.approx(1e-4 * proof.largest_logit + 1e-5)


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_a_file_with_one_changed_weight_fails_with_numbers(sample, path, change):
    model = onnx.load(path)
    bias = model.graph.initializer[-1]
    values = numpy_helper.to_array(bias).copy()
    values[3] += change
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    with pytest.raises(
        VerificationError, match=r"logits differ by up to (0\.01|inf), allowed is .*top-1 agrees on .* of 64 images"
    ):
        verify_onnx(path, sample.network, sample.images)


def test_a_file_for_one_batch_size_only_fails(sample, path):
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64
    onnx.save(model, path)
    with pytest.raises(VerificationError, match="cannot run it on images of shape"):
        verify_onnx(path, sample.network, sample.images)


def test_a_network_in_train_mode_is_refused(sample, path):
    with pytest.raises(VerificationError, match="train mode"):
        verify_onnx(path, sample.network.train(), sample.images)


def test_a_file_that_is_no_model_is_refused(sample, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(VerificationError, match="cannot load"):
        verify_onnx(tmp_path / "model.onnx", sample.network, sample.images)


def test_accuracy_through_the_file_is_that_of_the_network(sample, path):
    batches = list(zip(sample.images.split(24), sample.labels.split(24), strict=True))
    through, own = onnx_top1(path, batches), evaluate(sample.calibrated, batches)
    assert (through.top1, through.top5, through.images) == (own.top1, own.top5, own.images)
    assert through.loss == pytest.approx(own.loss, rel=1e-4)
    with pytest.raises(ValueError, match="no images"):
        onnx_top1(path, [])


def test_compare_forgives_a_near_tie_but_no_clear_lead():
    expected = torch.tensor([[1.0, 1.00001, -2.0], [3.0, 0.0, 0.0]])
    tie = expected.clone()
    tie[0, 0] += 0.00002
    assert compare("f", expected, [tie], tolerance=1e-4).top1_agreement == 0.5
    wrong = expected.clone()
    wrong[1] = torch.tensor([0.0, 3.0, 0.0])
    with pytest.raises(VerificationError, match="differ by up to 3"):
        compare("f", expected, [expected, wrong])


@pytest.mark.parametrize(
    ("expected", "found", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, 3), "without images"),
        (torch.full((1, 3), torch.nan), torch.zeros(1, 3), "recalibrate"),
        (torch.zeros(2, 3), torch.zeros(2, 4), r"shape \(2, 4\)"),
        (torch.ones(2, 3), torch.full((2, 3), torch.nan), "inf"),
    ],
)
def test_compare_refuses(expected, found, message):
    with pytest.raises(VerificationError, match=message):
        compare("f", expected, [found])


def test_one_class_can_be_compared():
    assert compare("f", torch.ones(2, 1), [torch.ones(2, 1)]).top1_agreement == 1.0


def test_a_missing_package_is_named(sample, path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"onceforall\[onnx\]"):
        verify_onnx(path, sample.network, sample.images)
