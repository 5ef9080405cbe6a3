"""Proof that an ONNX file computes what the network computes, and accuracy through the file itself.

x is (n, 3, resolution, resolution) float32, logits (n, classes).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..calibrate import Accuracy, Batch, tally
from ..errors import MissingExtraError, VerificationError
from ..nn.onnx import INPUT, OUTPUT

__all__ = ["ABSOLUTE", "RELATIVE", "Verification", "compare", "logits_of", "onnx_top1", "verify_onnx"]

# Rounding gave 2e-6 of the largest logit on real networks; a wrong padding or bf16 arithmetic gives more than 1e-3.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
BATCHES = (1, 7, 64)  # the batch dimension is free: each size runs all images


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


def verify_onnx(path: Path, network: nn.Module, images: Tensor, tolerance: float | None = None) -> Verification:
    """Run the file in ONNX Runtime over the images, in several batch sizes, and compare with the network.

    Args:
        path: the ONNX file.
        network: what it was written from, in eval mode.
        images: real images, preprocessed.
        tolerance: largest difference of a logit; None: 1e-4 of the largest |logit| plus 1e-5.

    Raises:
        VerificationError: the file does not run, or its logits or first classes differ.
        MissingExtraError: onnxruntime is not installed.
    """
    run = _session(path)
    expected = logits_of(network, images)
    found = [torch.cat([run(part) for part in torch.split(images.cpu(), size)]) for size in BATCHES]
    return compare(path.name, expected, found, tolerance)


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


def onnx_top1(path: Path, batches: Iterable[Batch]) -> Accuracy:
    """Accuracy computed through the file itself.

    Raises:
        VerificationError: the file does not run.
        DataError: no images.
        MissingExtraError: onnxruntime is not installed.
    """
    run = _session(path)
    return tally((run(x), labels) for x, labels in batches)


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes) of a network in eval mode, on the CPU.

    Raises:
        VerificationError: the network is in train mode.
    """
    if any(module.training for module in network.modules()):
        raise VerificationError("the network is in train mode, where it computes something else: call network.eval() first")
    with torch.no_grad():
        return torch.cat([network(part).cpu() for part in torch.split(images, 64)])


def _session(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise VerificationError(f"{path}: ONNX Runtime cannot load it: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            logits = session.run([OUTPUT], {INPUT: np.ascontiguousarray(x.numpy())})[0]
        except Exception as error:
            raise VerificationError(f"{path}: ONNX Runtime cannot run it on images of shape {tuple(x.shape)}: {error}") from error
        return torch.from_numpy(logits)

    return run
