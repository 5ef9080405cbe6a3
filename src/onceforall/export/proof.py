"""Verify that a file computes what the network computes.

The accuracy to expect of float32 depends on the network, so there is no fixed tolerance: a file is compared with the network's
logits in float64, and may be off by a multiple of what rounding alone can do to this network on these images. The effect of
rounding is also computed in float64, so the tolerance is the same on every processor.

x is (n, channels, height, width) float32, logits (n, classes).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..arch import Arch
from ..backends.format import Run
from ..errors import VerificationError
from ..nn.calls import STATISTICS
from ..nn.shared import parts_of
from ..supernets.supernet import Supernet

ROUNDING = 2.0**-24  # the largest relative error of one float32 operation
# A float32 sum of k products is the exact sum with each product moved by about sqrt(k) roundings (Higham and Mary, "A new approach
# to probabilistic rounding error analysis", 2019): moving the weights by as much and computing exactly shows what float32 may do.
SOFTMAX_ROUNDINGS = 4  # in the softmax itself: an exponential, a sum and a quotient
PROBES, AT_ONCE = 4, 16  # perturbations of the weights, and images for each: together all images of a proof
# Correct logits of 48 networks were off by up to 0.73 times what the probes found; those of a network trained for one epoch by 1.0
# times, on the one image of 64 that float32 computes worst: probes without that image found a sixth (docs/export.md).
MARGIN = 4
ABOUT_FLOAT32 = (
    "Differences are from the network's logits in float64. `float32 itself`: the error of PyTorch's own float32 logits. "
    f"Allowed is {MARGIN} times what rounding to float32 can do to this network on these images, on any processor; for int8, half "
    "of the largest logit."
)
INT8 = 0.5  # allowed, relative to the largest logit; a small MobileNetV3 on the digits was off by a sixteenth of the spread


@dataclass(frozen=True)
class Reference:
    """A network's logits, and the accuracy to expect of float32.

    Args:
        logits: (n, classes) float64.
        rounding: how far rounding to float32 alone can move a logit, on any processor.
        float32_error: error of PyTorch's own float32 logits on this processor.
        kind: what the numbers are, for messages.
    """

    logits: Tensor
    rounding: float
    float32_error: float
    kind: str = "logits"

    def __post_init__(self) -> None:
        if not (self.logits.isfinite().all() and np.isfinite([self.rounding, self.float32_error]).all()):
            raise VerificationError("the network itself gives logits that are not finite: recalibrate it first")

    @property
    def largest(self) -> float:
        """The largest absolute logit."""
        return float(self.logits.abs().max())

    @property
    def allowed(self) -> float:
        """Largest allowed difference of a float32 file."""
        return MARGIN * max(self.rounding, ROUNDING * self.largest)

    def probabilities(self, activation: str) -> "Reference":
        """The reference for probabilities, by "softmax" or "sigmoid".

        If all logits move by up to d, a probability p moves by up to 2 p (1 - p) d (half of that for a sigmoid), which is hardly
        at all for a confident network. So probabilities say little about the logits behind them, which must be verified too.
        """
        shares = self.logits.sigmoid() if activation == "sigmoid" else self.logits.softmax(1)
        gain = 2 * float((shares * (1 - shares)).max())
        rounding = max(gain * self.rounding, SOFTMAX_ROUNDINGS * ROUNDING)
        return Reference(shares, rounding, gain * self.float32_error, "probabilities")

    @property
    def lead(self) -> Tensor:
        """(n,) margin of each image's top-1 class over the second."""
        if self.logits.shape[1] == 1:
            return torch.full((len(self.logits),), torch.inf)
        first, second = self.logits.topk(2, 1).values.unbind(1)
        return first - second


@dataclass(frozen=True)
class Verification:
    """How close a file's logits are to the network's.

    Args:
        max_abs_diff: largest difference of a logit.
        tolerance: largest difference allowed.
        largest_logit: largest absolute logit of the network.
        top1_agreement: share of images with the same top-1 class.
        images: number of images.
        rounding: see `Reference`.
        float32_error: see `Reference`.
        by_chance: number of images whose top-1 class rounding alone can change.
    """

    max_abs_diff: float
    tolerance: float
    largest_logit: float
    top1_agreement: float
    images: int
    rounding: float
    float32_error: float
    by_chance: int


@dataclass(frozen=True)
class Proof:
    """The comparison of a file with the extracted network and, if given, with the sub-network of the supernet."""

    extracted: Verification
    active: Verification | None = None

    @property
    def chance(self) -> str | None:
        """One line for users of the network, if rounding can change top-1 classes."""
        result = self.extracted
        if not result.by_chance:
            return None
        return (
            f"float32 itself decides the first class of {result.by_chance:,} of {result.images:,} images by chance: its rounding "
            f"can move a logit by {result.rounding:.2g}, which is more than half of the lead"
        )


def prove(
    what: str, run: Run, images: Tensor, *, extracted: Reference, active: Tensor | None, batches: Sequence[int], int8: bool
) -> Proof:
    """Run a file on the images in each batch size, and compare its logits with the network's.

    Args:
        what: name of the file, for messages.
        run: runs the loaded file.
        extracted: logits of the extracted network.
        active: logits of the sub-network inside the supernet.
        batches: batch sizes to try.
        int8: allow differences up to half of the largest logit; else `extracted.allowed`.

    Raises:
        VerificationError: the file does not run, its logits differ, or rounding is so large for this network that no comparison
            is meaningful.
    """
    logits = [torch.cat([run(part) for part in torch.split(images, size)]) for size in batches]
    tolerance = INT8 * extracted.largest if int8 else None
    proof = Proof(compare_logits(what, extracted, logits, tolerance))
    if active is None:
        return proof
    return replace(proof, active=compare_logits(what, replace(extracted, logits=active.double()), logits, tolerance))


def reference_of(network: nn.Module, images: Tensor) -> Reference:
    """Logits of a network, in eval mode and on the CPU, in float64, and the effect of rounding on them.

    Raises:
        VerificationError: there are no images, the network is in train mode, or its logits are not finite.
    """
    if not len(images):
        raise VerificationError("a file cannot be verified without images: give at least one")
    exact = _in_float64(network)
    logits = logits_of(exact, images.double())
    error = float((logits_of(network, images).double() - logits).abs().max())
    reference, generator = Reference(logits, 0.0, error), torch.Generator().manual_seed(0)
    weights = {name: value.clone() for name, value in exact.state_dict().items()}
    for i in range(PROBES):
        some = torch.arange(AT_ONCE * i, AT_ONCE * i + min(AT_ONCE, len(images))) % len(images)
        _move(exact.state_dict(), weights, generator)
        moved = logits_of(exact, images[some].double())
        reference = replace(reference, rounding=max(reference.rounding, float((moved - logits[some]).abs().max())))
    return reference


class _Depthwise(nn.Module):
    """A depthwise convolution in float64. Torch's own goes channel by channel: most of a second for a small network."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.stride, self.padding = conv.weight, conv.stride[0], int(conv.padding[0])
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h', w')."""
        x = nn.functional.pad(x, (self.padding,) * 4)
        kernel, step = self.weight.shape[2], self.stride
        rows, columns = ((size - kernel) // step + 1 for size in x.shape[2:])
        y = x.new_zeros((*x.shape[:2], rows, columns))
        for i in range(kernel):
            for j in range(kernel):
                window = x[:, :, i : i + step * (rows - 1) + 1 : step, j : j + step * (columns - 1) + 1 : step]
                y.addcmul_(window, self.weight[:, :, i, j, None])
        return y


def _in_float64(network: nn.Module) -> nn.Module:
    """A copy of the network that computes in float64."""
    exact = copy.deepcopy(network).double()
    for name, conv in list(exact.named_modules()):
        if isinstance(conv, nn.Conv2d) and 1 < conv.groups == conv.in_channels == conv.out_channels:
            square = all(isinstance(pair, tuple) and pair[0] == pair[1] for pair in (conv.kernel_size, conv.stride, conv.padding))
            if square and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and conv.bias is None:
                exact.set_submodule(name, _Depthwise(conv))
    return exact


def _move(state: Mapping[str, Tensor], weights: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Set each number to its weight, moved up or down by the possible float32 error of a sum over the layer's inputs."""
    for name, value in state.items():
        if value.is_floating_point():
            terms = value[0].numel() if value.ndim > 1 else 1
            up = torch.rand(value.shape, generator=generator) < 0.5
            value.copy_(weights[name] * (1 + ROUNDING * terms**0.5 * torch.where(up, 1.0, -1.0).double()))


def active_logits(supernet: Supernet, arch: Arch, network: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes), on the CPU, of `supernet(images, arch)` in eval mode, with the extracted network's BatchNorm statistics.

    The supernet is not changed. Statistics that the sub-network does not have are NaN, so they cannot be used by mistake.
    """
    buffers = {name: torch.full_like(value, torch.nan) for name, value in supernet.named_buffers() if name.endswith(STATISTICS)}
    parts = parts_of(supernet.space.lower(arch, supernet.num_classes))
    for name, value in network.named_buffers():
        if name in buffers:
            (ranges,) = parts[name].cut if name in parts else (None,)
            at = torch.cat([torch.arange(*ends) for ends in ranges or ((0, len(value)),)])
            buffers[name][at.to(buffers[name].device)] = value.to(buffers[name])
    was_training = supernet.training
    supernet.eval()
    try:
        with torch.no_grad():
            device = next(supernet.parameters()).device
            batches = torch.split(images, 64)
            return torch.cat([functional_call(supernet, buffers, (batch.to(device), arch)).cpu() for batch in batches])
    finally:
        supernet.train(was_training)


def compare_logits(what: str, expected: Reference, computed: Iterable[Tensor], tolerance: float | None = None) -> Verification:
    """Compare logits (n, classes) of a file, computed in one or more ways, with the network's own.

    Args:
        what: name of the file, for messages.
        expected: the network's logits.
        computed: logits of the file.
        tolerance: largest difference allowed; None for `expected.allowed`.

    Raises:
        VerificationError: they differ by more than the tolerance; PyTorch's own logits differ; or rounding to float32 alone can
            move the logits so far that the comparison is meaningless.
    """
    largest, rounding, kind = expected.largest, expected.rounding, expected.kind
    singular = "logit" if kind == "logits" else "probability"
    allowed = expected.allowed if tolerance is None else tolerance
    if expected.allowed > INT8 * largest > 0:
        raise VerificationError(
            f"{what}: cannot be verified, since rounding to float32 alone can move the network's {kind} by {rounding:.3g} (largest "
            f"{singular} {largest:.3g}), so its predictions are chance: train it further, or recalibrate it on more images"
        )
    if expected.float32_error > expected.allowed:
        raise VerificationError(
            f"{what}: does not compute what the network computes: PyTorch's {kind} are {expected.float32_error:.3g} off what its "
            f"weights give in float64, allowed is {expected.allowed:.3g} (largest {singular} {largest:.3g}): remove hooks from the "
            "network, and settings that lower float32's precision, such as ONEDNN_DEFAULT_FPMATH_MODE"
        )
    difference, agreement = 0.0, 1.0
    for logits in computed:
        if logits.shape != expected.logits.shape:
            raise VerificationError(
                f"{what}: returns {kind} of shape {tuple(logits.shape)}, the network {tuple(expected.logits.shape)}"
            )
        worst = float((logits.double() - expected.logits).abs().max())
        difference = max(difference, worst if np.isfinite(worst) else np.inf)
        same = logits.argmax(1) == expected.logits.argmax(1)
        agreement = min(agreement, float(same.double().mean()))
        if difference > allowed:
            raise VerificationError(
                f"{what}: does not compute what the network computes: {kind} differ by up to {difference:.3g}, allowed is "
                f"{allowed:.3g} (largest {singular} {largest:.3g}, rounding alone moves {kind} by up to {rounding:.3g}); "
                f"top-1 agrees on {100 * agreement:.1f} % of {len(logits)} images"
            )
    by_chance = int((expected.lead <= 2 * rounding).sum())
    n = len(expected.logits)
    return Verification(difference, allowed, largest, agreement, n, rounding, expected.float32_error, by_chance)


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes) of a network in eval mode, on the CPU.

    Raises:
        VerificationError: the network is in train mode.
    """
    if any(module.training for module in network.modules()):
        raise VerificationError("the network is in train mode, where it computes something else: call network.eval() first")
    with torch.no_grad():
        return torch.cat([network(part).cpu() for part in torch.split(images, 64)])
