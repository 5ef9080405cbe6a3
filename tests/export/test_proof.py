"""The proof: right files pass on any processor, wrong ones fail, for networks that rounding hardly moves and for those it does."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import onceforall
from onceforall.errors import VerificationError
from onceforall.export.proof import MARGIN, Reference, compare_logits, logits_of, prove, reference_of
from onceforall.nn.static import build

DIGITS = onceforall.space("mobilenet_v3", width=0.5, resolutions=(20, 28, 31), strides=(1, 1, 2, 2, 1, 1, 2))


def of(logits: Tensor, rounding: float = 1e-6) -> Reference:
    return Reference(logits.double(), rounding, rounding / 4)


def badly_conditioned(seed: int) -> fx.GraphModule:
    """Float32 is off by 1e-5 to 4e-4 of the largest logit here: random weights, scales and statistics, none fits the others."""
    network = build(DIGITS.lower(DIGITS.sample(np.random.default_rng(seed)), 10)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name or ("norm" in name and "weight" in name):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture(params=["well conditioned", 2, 3])
def case(request, sample) -> tuple[fx.GraphModule, Tensor]:
    if request.param == "well conditioned":
        return sample.network, sample.images[:8]
    return badly_conditioned(request.param), torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def proven(network: nn.Module, reference: Reference, images: Tensor):
    with torch.no_grad():
        return prove("f", network, images, extracted=reference, active=None, batches=(1, 7), int8=False).extracted


def test_float32_passes_however_it_is_computed(case):
    """With other kernels, in other memory formats, with weights rounded once more (as where norms are folded)."""
    network, images = case
    reference = reference_of(network, images)
    assert proven(network, reference, images).tolerance == reference.allowed == MARGIN * reference.rounding
    proven(copy.deepcopy(network).to(memory_format=torch.channels_last), reference, images)
    once_more = copy.deepcopy(network)
    with torch.no_grad():
        for value in once_more.parameters():
            value.mul_(1 + 2**-24 * torch.randn(value.shape, generator=torch.Generator().manual_seed(5)).sign().double())
    proven(once_more, reference, images)
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        proven(network, reference, images)
    finally:
        torch._C._set_mkldnn_enabled(before)


def test_the_reference_is_torchs_own_float64(small_space):
    """Also where depthwise convolutions are computed in another way."""
    for arch in (small_space.smallest(), small_space.largest()):
        network = build(small_space.lower(arch, 10)).eval()
        images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = copy.deepcopy(network).double()(images.double())
        torch.testing.assert_close(reference_of(network, images).logits, expected, rtol=1e-9, atol=1e-12)


def test_the_allowance_is_not_the_processors_own_luck(case):
    """It is found in float64: neither the kernels nor the threads nor the precision of float32 products change it."""
    network, images = case
    found = reference_of(network, images)
    before, precision = torch._C._get_mkldnn_enabled(), torch.get_float32_matmul_precision()
    torch._C._set_mkldnn_enabled(False)
    torch.set_float32_matmul_precision("medium")
    try:
        again = reference_of(network, images)
    finally:
        torch._C._set_mkldnn_enabled(before)
        torch.set_float32_matmul_precision(precision)
    assert again.allowed == pytest.approx(found.allowed, rel=1e-6)
    assert found.float32_error < found.rounding


def bfloat16(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network.bfloat16()(x.bfloat16()).float()


def autocast(network: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x).float()

    return run


def float16_weights(network: nn.Module) -> nn.Module:
    for value in network.parameters():
        value.copy_(value.half().float())
    return network


def padding(network: nn.Module) -> nn.Module:
    """As TensorFlow's SAME: one pixel more at the end."""
    strided = [conv for conv in of_kind(network, nn.Conv2d) if conv.stride[0] == 2][-1]
    pad = strided.kernel_size[0] // 2
    strided.padding = (0, 0)
    strided.register_forward_pre_hook(lambda _, given: (F.pad(given[0], (pad - 1, pad + 1, pad - 1, pad + 1)),))
    return network


def swapped(network: nn.Module) -> nn.Module:
    weight = of_kind(network, nn.Conv2d)[-1].weight
    weight.copy_(weight[[1, 0, *range(2, len(weight))]])
    return network


def other_statistics(network: nn.Module) -> nn.Module:
    norm = of_kind(network, nn.BatchNorm2d)[3]
    norm.running_mean.add_(0.01 * norm.running_var.sqrt())
    return network


def other_eps(network: nn.Module) -> nn.Module:
    for norm in of_kind(network, nn.BatchNorm2d):
        norm.eps = 1e-3
    return network


class KerasHardSigmoid(nn.Module):
    """ONNX's default, too: 0.2, not 1/6."""

    def forward(self, x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0, 1)


def exchanged(network: nn.Module, old: type[nn.Module], new: nn.Module) -> nn.Module:
    for name, _ in [item for item in network.named_modules() if isinstance(item[1], old)]:
        network.set_submodule(name, new)
    return network


def of_kind(network: nn.Module, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


WRONG = {
    "bfloat16": bfloat16,
    "autocast": autocast,
    "float16 weights": float16_weights,
    "padding": padding,
    "two channels swapped": swapped,
    "statistics of another network": other_statistics,
    "eps": other_eps,
    "hard sigmoid": lambda network: exchanged(network, nn.Hardsigmoid, KerasHardSigmoid()),
    "silu": lambda network: exchanged(network, nn.Hardswish, nn.SiLU()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_refused_however_badly_conditioned_the_network_is(case, wrong):
    network, images = case
    reference = reference_of(network, images)
    with torch.no_grad():
        file = WRONG[wrong](copy.deepcopy(network))
        with pytest.raises(VerificationError, match=r"does not compute what .* rounding alone moves logits by up to"):
            proven(file, reference, images)


def test_a_network_that_rounding_decides_is_not_proven():
    """A large bias is added to each channel, and differences of equal channels are taken: little is left of 24 bits."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    with torch.no_grad():
        network[0].bias.fill_(1e7)
        network[1].weight.copy_(torch.tensor([1.0, -1.0] * 4).repeat(8, 1)[..., None, None])
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    reference = reference_of(network, images)
    assert reference.rounding > 0.1 * reference.largest
    with pytest.raises(
        VerificationError, match=r"f: cannot be verified, since rounding to float32 alone can move .*train it further"
    ):
        proven(network, reference, images)


def test_a_network_computed_with_less_than_float32_proves_nothing(case):
    """As with ONEDNN_DEFAULT_FPMATH_MODE=BF16: a file that is as coarse must not pass."""
    network, images = case
    with torch.no_grad():
        coarse = autocast(network)
        reference = reference_of(network, images)
        off = replace(reference, float32_error=float((coarse(images).double() - reference.logits).abs().max()))
    with pytest.raises(VerificationError, match=r"remove hooks .* settings that lower float32's precision"):
        proven(network, off, images)


def test_chance_is_told_in_one_line():
    expected = of(torch.tensor([[1.0, 1.0001], [2.0, 1.0], [-3.0, 0.0]]), rounding=1e-3)
    found = compare_logits("f", expected, [expected.logits.float()])
    assert found.by_chance == 1
    proof = onceforall.export.Proof(found)
    assert proof.chance == (
        "float32 itself decides the first class of 1 of 3 images by chance: its rounding can move a logit by 0.001, "
        "which is more than half of the lead"
    )
    assert onceforall.export.Proof(replace(found, by_chance=0)).chance is None


def test_compare_forgives_a_near_tie_but_no_clear_lead():
    expected = of(torch.tensor([[1.0, 1.00001, -2.0], [3.0, 0.0, 0.0]]))
    tie = expected.logits.clone()
    tie[0, 0] += 0.00002
    assert compare_logits("f", expected, [tie], tolerance=1e-4).top1_agreement == 0.5
    wrong = expected.logits.clone()
    wrong[1] = torch.tensor([0.0, 3.0, 0.0])
    with pytest.raises(VerificationError, match="differ by up to 3"):
        compare_logits("f", expected, [expected.logits, wrong])


@pytest.mark.parametrize(
    ("expected", "found", "message"),
    [(torch.zeros(2, 3), torch.zeros(2, 4), r"shape \(2, 4\)"), (torch.ones(2, 3), torch.full((2, 3), torch.nan), "inf")],
)
def test_compare_refuses(expected, found, message):
    with pytest.raises(VerificationError, match=message):
        compare_logits("f", of(expected), [found])


def test_what_cannot_be_compared_with_is_refused(sample):
    with pytest.raises(VerificationError, match="without images"):
        reference_of(sample.network, sample.images[:0])
    with pytest.raises(VerificationError, match="recalibrate"):
        of(torch.full((1, 3), torch.nan))
    reference, nowhere = of(torch.ones(64, 10)), torch.full((64, 10), torch.nan)
    with pytest.raises(VerificationError, match="recalibrate"):
        prove("f", lambda x: torch.ones(64, 10), sample.images, extracted=reference, active=nowhere, batches=(64,), int8=False)


def test_logits_of_zero_are_compared(sample):
    with torch.no_grad():
        for value in sample.network.head.classifier.parameters():
            value.zero_()
    reference = reference_of(sample.network, sample.images)
    assert compare_logits("f", reference, [torch.zeros(64, 10)]).max_abs_diff == 0
    with pytest.raises(VerificationError, match="differ"):
        compare_logits("f", reference, [torch.full((64, 10), 1e-6)])


def test_one_class_can_be_compared():
    assert compare_logits("f", of(torch.ones(2, 1)), [torch.ones(2, 1)]).top1_agreement == 1.0


def test_a_network_in_train_mode_is_refused(sample):
    for call in (logits_of, reference_of):
        with pytest.raises(VerificationError, match="train mode"):
            call(sample.network.train(), sample.images)


def test_probabilities_may_move_by_what_their_logits_conditioning_gives():
    """A confident network's may hardly move at all, an undecided one's by half as much as the logits."""
    confident, undecided = (of(torch.tensor([[x, 0.0]]), 1e-4).probabilities("softmax") for x in (12.0, 0.0))
    assert undecided.rounding == pytest.approx(0.5e-4)
    assert confident.rounding < 2e-9 + 4 * 2**-24
    wrong = torch.tensor([[11.0, 0.0]])
    with pytest.raises(VerificationError, match=r"probabilities differ by up to .* \(largest probability 1, "):
        compare_logits("f", confident, [wrong.softmax(1)])
    for reference in (confident, undecided):
        compare_logits("f", reference, [reference.logits.float()])
