import pytest
import torch

from onceforall.errors import VerificationError
from onceforall.export.proof import compare, logits_of


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


def test_a_network_in_train_mode_is_refused(sample):
    with pytest.raises(VerificationError, match="train mode"):
        logits_of(sample.network.train(), sample.images)
