"""Device and precision in which networks are trained and measured."""

import os
from dataclasses import dataclass

import torch

from ...errors import TrainingError
from ...train.step import PRECISIONS


@dataclass(frozen=True)
class Compute:
    """A torch device, and the precision of convolutions during training."""

    device: torch.device
    precision: str

    @property
    def name(self) -> str:
        """Name of the device."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def choose_compute(device: str = "auto", precision: str | None = None) -> Compute:
    """The device and precision for the command line's arguments on this machine.

    Under torchrun each process takes the GPU of its local rank. On a GPU, float32 is float32 from now on, without TensorFloat-32.

    Args:
        device: "auto" for a GPU where there is one; "cpu", "cuda" or "cuda:N".
        precision: None for bfloat16 on GPUs that have it, float32 elsewhere; a name in `PRECISIONS`.

    Raises:
        TrainingError: a name is unknown, there is no such GPU, or several processes would share one.
    """
    if precision is not None and precision not in PRECISIONS:
        raise TrainingError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if found else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdecimal())):
        raise TrainingError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return Compute(torch.device("cpu"), precision or "float32")
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if number and beside > 1:
        raise TrainingError(
            f"{device}: the {beside} processes on this machine cannot share one GPU: use --device cuda, which gives each its own"
        )
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= found:
        raise TrainingError(
            f"{device}: torch {torch.__version__} finds {found} GPUs here, so there is no GPU {index}: use --device cpu"
        )
    chosen = torch.device("cuda", index)
    torch.cuda.set_device(chosen)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Compute(chosen, precision or ("bfloat16" if has_bfloat16 else "float32"))
