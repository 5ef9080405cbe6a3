"""Proof that a file computes what the network computes.

x is (n, 3, resolution, resolution) float32, logits (n, classes).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..arch import Arch
from ..errors import VerificationError
from ..supernet import Supernet
from .formats.common import Run

__all__ = ["Proof", "Verification", "active_logits", "compare", "logits_of", "prove"]

# Rounding gave 2e-6 of the largest logit on real networks; a wrong padding or bf16 arithmetic gives more than 1e-3.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
INT8 = 0.5  # of the largest logit; a small MobileNetV3 on the digits was off by a sixteenth of the logits' spread


@dataclass(frozen=True)
class Verification:
    """How close a file's logits came to the network's.

    `tolerance` is the largest difference allowed; `top1_agreement` the share of images with the same first class.
    """

    max_abs_diff: float
    tolerance: float
    largest_logit: float
    top1_agreement: float
    images: int


@dataclass(frozen=True)
class Proof:
    """A file compared with the extracted network and, if it was given, with the sub-network of the supernet."""

    extracted: Verification
    active: Verification | None = None


def prove(
    what: str, run: Run, images: Tensor, *, extracted: Tensor, active: Tensor | None, batches: Sequence[int], int8: bool
) -> Proof:
    """Run a file over the images, in each batch size, and compare with what the networks say.

    Args:
        what: name of the file, for messages.
        run: the file, loaded.
        images: real images, preprocessed.
        extracted: logits (n, classes) of the extracted network.
        active: logits of the sub-network inside the supernet.
        batches: sizes to try.
        int8: allows differences up to half of the largest logit; else 1e-4 of it plus 1e-5.

    Raises:
        VerificationError: the file does not run, or its logits or first classes differ.
    """
    found = [torch.cat([run(part) for part in torch.split(images, size)]) for size in batches]
    references = [extracted] if active is None else [extracted, active]
    return Proof(*(compare(what, logits, found, INT8 * float(logits.abs().max()) if int8 else None) for logits in references))


def active_logits(supernet: Supernet, arch: Arch, network: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes), on the CPU, of `supernet(images, arch)` in eval mode, with the extracted network's BatchNorm statistics.

    Nothing is written to the supernet. Statistics that the sub-network does not have are NaN, so none can be used by mistake.
    """
    buffers = {name: torch.full_like(value, torch.nan) for name, value in supernet.named_buffers() if value.is_floating_point()}
    for name, value in network.named_buffers():
        if name in buffers:
            buffers[name][: len(value)] = value
    was_training = supernet.training
    supernet.eval()
    try:
        with torch.no_grad():
            parts = torch.split(images, 64)
            device = next(supernet.parameters()).device
            return torch.cat([functional_call(supernet, buffers, (part.to(device), arch)).cpu() for part in parts])
    finally:
        supernet.train(was_training)


def compare(what: str, expected: Tensor, found: Iterable[Tensor], tolerance: float | None = None) -> Verification:
    """Compare logits (n, classes) of a file, computed in one or more ways, with the network's own.

    Raises:
        VerificationError: they differ by more than the tolerance, or a first class differs although its lead is larger.
    """
    if not len(expected):
        raise VerificationError(f"{what}: cannot be verified without images: give at least one")
    if not expected.isfinite().all():
        raise VerificationError(f"{what}: the network itself gives logits that are not finite: recalibrate it first")
    largest = float(expected.abs().max())
    allowed = RELATIVE * largest + ABSOLUTE if tolerance is None else tolerance
    top2 = expected.double().topk(min(2, expected.shape[1]), 1).values
    lead = top2[:, 0] - top2[:, -1]
    difference, agreement = 0.0, 1.0
    for logits in found:
        if logits.shape != expected.shape:
            raise VerificationError(f"{what}: gives logits of shape {tuple(logits.shape)}, the network {tuple(expected.shape)}")
        worst = float((logits.double() - expected.double()).abs().max())
        difference = max(difference, worst if np.isfinite(worst) else np.inf)
        same = logits.argmax(1) == expected.argmax(1)
        agreement = min(agreement, float(same.double().mean()))
        if difference > allowed or bool((~same & (lead > 2 * allowed)).any()):
            raise VerificationError(
                f"{what}: does not compute what the network computes: logits differ by up to {difference:.3g}, allowed is "
                f"{allowed:.3g} (largest logit {largest:.3g}); top-1 agrees on {100 * agreement:.1f} % of {len(expected)} images"
            )
    return Verification(difference, allowed, largest, agreement, len(expected))


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes) of a network in eval mode, on the CPU.

    Raises:
        VerificationError: the network is in train mode.
    """
    if any(module.training for module in network.modules()):
        raise VerificationError("the network is in train mode, where it computes something else: call network.eval() first")
    with torch.no_grad():
        return torch.cat([network(part).cpu() for part in torch.split(images, 64)])
