"""What several commands share: options, messages, and what Ctrl-C does."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..readable import percent
from .completion import devices, one_of, run_folders
from .signals import handled, interrupt, name_of
from .values import amount, latencies_ms, memory_bytes, space_arguments
from .views import TrainView, lasting, say

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "CPU",
    "CacheGB",
    "Data",
    "DeviceText",
    "Devices",
    "ExportKit",
    "Finalists",
    "Flash",
    "Holdout",
    "Host",
    "ImportResults",
    "Json",
    "Latency",
    "Limit",
    "Macs",
    "MaxPixels",
    "Memory",
    "Params",
    "Ram",
    "Ray",
    "Resolutions",
    "RunFolder",
    "RunOrSpace",
    "Seed",
    "TorchDevice",
    "Weights",
    "budgets_of",
    "on_host",
    "run_or_space",
    "run_record",
    "stderr",
    "stopping",
    "tell",
    "tell_prediction",
]

DOUBTFUL_TAU = 0.3  # that chance in measuring allows

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run directory, made by ofa train or ofa import.", autocompletion=run_folders)
]
RunOrSpace = Annotated[
    str, typer.Argument(metavar="RUN", help="Run directory, or a space: mobilenet_v3:width=1.0.", autocompletion=run_folders)
]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same result.", min=0, max=2**32 - 1)]
DeviceText = Annotated[
    str, typer.Option(metavar="DEVICE", help="cpu, or RUNTIME:threads=N; see ofa devices.", autocompletion=devices)
]
TorchDevice = Annotated[
    str,
    typer.Option(metavar="DEVICE", help="auto (a GPU if there is one), cpu, cuda or cuda:N.", autocompletion=one_of("compute")),
]
Devices = Annotated[
    list[str],
    typer.Option("--device", metavar="DEVICE", help="As in ofa profile; several: give it again.", autocompletion=devices),
]
CPU = ["cpu"]
Data = Annotated[str | None, typer.Option(metavar="DATA", help="Where the images are now, if they have moved.")]
Ray = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Share out over a Ray cluster: host:port, auto, local.")]
Host = Annotated[str | None, typer.Option(metavar="URL", help="Another machine, such as ssh://pi@board.")]
ExportKit = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write models to time elsewhere instead.")]
ImportResults = Annotated[Path | None, typer.Option(metavar="CSV", help="Read their times, --device imported@NAME.")]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="A state dict for it; random for none.")]
Resolutions = Annotated[str | None, typer.Option(metavar="PIXELS", help="Of the images, such as 160,192,224.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Holdout = Annotated[float, typer.Option(metavar="X", help="Share of the training images to hold out.")]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Use only so many images of each split.", min=1)]
MaxPixels = Annotated[
    str | None, typer.Option(metavar="N", help="Leave out larger images, e.g. 500M; JPEG 300M, others 89M if not given.")
]
CacheGB = Annotated[float | None, typer.Option(metavar="N", help="Most for the decoded images; 8 if not given.", min=0.001)]
Latency = Annotated[str | None, typer.Option(metavar="TIME", help="Longest, e.g. 5ms; several: 2ms,5ms.")]
Macs = Annotated[str | None, typer.Option(metavar="N", help="Most multiply-accumulates, e.g. 300M.")]
Params = Annotated[str | None, typer.Option(metavar="N", help="Most parameters, e.g. 4M.")]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Most activation memory of one image, e.g. 2MB.")]
Flash = Annotated[str | None, typer.Option(metavar="SIZE", help="Microcontrollers: most int8 weights, e.g. 1MB.")]
Ram = Annotated[str | None, typer.Option(metavar="SIZE", help="Microcontrollers: most int8 activations, e.g. 256kB.")]
Finalists = Annotated[int, typer.Option(metavar="N", help="Best predicted networks to measure.", min=1)]


def budgets_of(
    latency: str | None, macs: str | None, params: str | None, memory: str | None, flash: str | None, ram: str | None
) -> list[Any]:
    """The budgets that the options mean, one for each latency."""
    from ..pipeline.limits import Budget

    others = {
        "macs": None if macs is None else amount(macs),
        "params": None if params is None else amount(params),
        "memory_bytes": None if memory is None else memory_bytes(memory),
        "flash_bytes": None if flash is None else memory_bytes(flash),
        "ram_bytes": None if ram is None else memory_bytes(ram),
    }
    return [Budget(latency_ms=ms, **others) for ms in ([None] if latency is None else latencies_ms(latency))]


def on_host(device: str, host: str | None) -> str:
    """The device's text with another machine."""
    return device if host is None else f"{device}@{host}"


def run_or_space(text: str) -> Any:
    """A path, or the space that is meant: a family's name, alone or with arguments after a colon."""
    from ..spaces import FAMILIES, space

    family, colon, _ = text.partition(":")
    if Path(text).exists() or not (colon or family in FAMILIES):
        return Path(text)
    return space(**space_arguments(text if colon else f"{text}:"))


def run_record(run: Any) -> dict[str, Any]:
    """What a new run directory is, as JSON values."""
    return {
        "folder": str(run.folder),
        "weights": run.weights_hash(),
        "space": run.info.space,
        "classes": list(run.info.classes),
        "images": run.info.images,
    }


def stderr() -> "Console":
    """Where progress and messages go."""
    from rich.console import Console

    return Console(file=lasting(sys.stderr))


def tell(text: str) -> None:
    """Print one line there; of torchrun's processes only the first one's."""
    if os.environ.get("RANK", "0") == "0":
        say(stderr(), text)


def tell_prediction(found: Any, as_json: bool) -> None:
    """Print what a `pipeline.predictor.Prediction` is, and its errors."""
    e, kind, fitted = found.errors, found.predictor.kind, len(found.fitted)
    if as_json:
        print(json.dumps({**asdict(e), "ceiling": found.ceiling, "fitted_on": fitted, "kind": kind}))
        return
    most = "" if found.ceiling is None else f" (a perfect one would reach about {found.ceiling:.2f}: measurements are noisy)"
    print(f"fitted on {fitted} sub-networks ({kind}); on {e.n} others:")
    print(f"RMSE {percent(e.rmse, 2)}, Kendall tau {e.kendall_tau:.3f}{most}, 90 % error bars hold {percent(e.coverage90, 0)}")
    if found.ceiling is not None and found.ceiling < DOUBTFUL_TAU:
        tell(
            f"{found.checked[0].images} held-out images can hardly tell these sub-networks apart: for a better choice train with "
            "more images, or hold out more of them (ofa train --holdout 0.3)"
        )


@contextmanager
def stopping(view: TrainView) -> Iterator[Callable[[], bool]]:
    """While steps are trained, the first signal to end asks for a stop after a checkpoint; otherwise it interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked or not view.training:
            interrupt(number, frame)
        asked.append(number)
        say(view.console, f"{name_of(number)}: stopping with a checkpoint after this step; once more to stop at once")

    with handled(ask):
        yield lambda: bool(asked)
