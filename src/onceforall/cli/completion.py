"""What the Tab key offers: run directories, and values of options. Torch, which takes seconds to load, stays out."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

import typer

from ..backends import FORMATS, RUNTIMES
from ..common.files import read_json
from ..data.reading import CACHES
from ..errors import OnceForAllError
from ..scores import METRICS
from ..tasks.task import TASKS

# Copies of the keys of registries whose modules take long to load; tests/cli/test_completion.py compares them.
VALUES: dict[str, Collection[str]] = {
    "metric": tuple(METRICS),
    "task": tuple(TASKS),
    "preset": (
        "digits",
        "digits-demo",
        "imagenette-60m",
        "pretrained",
        "cifar10-30m",
        "cifar10-gpu",
        "imagenette-gpu",
        "imagenet-ofa",
        "imagenet-alphanet",
    ),
    "scheme": (
        "progressive_shrinking",
        "single_path",
        "all_sizes",
        "sandwich",
        "alphanet",
        "best_up",
        "coupled",
        "delayed_shrinking",
    ),
    "runtime": RUNTIMES,
    "format": FORMATS,
    "kind": ("linear", "pairwise", "smooth"),
    "original": (
        "ofa_mbv3_d234_e346_k357_w1_0",
        "ofa_mbv3_d234_e346_k357_w1_2",
        "ofa_proxyless_d234_e346_k357_w1_3",
        "ofa_resnet50",
    ),
    "cache": CACHES,
    "precision": ("float32", "bfloat16"),
    "compute": ("auto", "cpu", "cuda"),
    "split": ("held-out", "test"),
    "arch": ("largest", "smallest", "random:16"),
}


def one_of(kind: str) -> Callable[[], list[str]]:
    """A function that offers the values of this kind."""
    return lambda: list(VALUES[kind])


def several_of(kind: str) -> Callable[[str], list[str]]:
    """A function that completes a comma-separated list with the values of this kind that are not yet in it."""

    def offered(incomplete: str) -> list[str]:
        given, comma, _ = incomplete.rpartition(",")
        return [f"{given}{comma}{value}" for value in VALUES[kind] if value not in given.split(",")]

    return offered


def run_folders(incomplete: str) -> list[str]:
    """Run directories in the folder typed so far and one level below; if there are none, shells offer any file.

    Names with blanks, quotes and the like are left to the shell, which knows how to quote them.
    """
    folder, slash, name = incomplete.rpartition("/")
    start = Path(folder + slash)
    found = [path.parent for pattern in ("*/run.json", "*/*/run.json") for path in start.glob(pattern)]
    plain = [str(path.relative_to(start)) for path in found if name.startswith(".") or not _hidden(path.relative_to(start))]
    return sorted(f"{folder}{slash}{text}" for text in plain if re.fullmatch(r"[\w.,@%+=/-]+", text))


def device_texts(context: typer.Context) -> list[tuple[str, str]]:
    """Devices for which the run has a latency table, then all runtimes."""
    # while --device has no value, the arguments before it are not parsed
    given = (*map(context.params.get, ("folder", "source")), *context.args)
    run = next((path for path in given if path is not None), None)
    measured = [] if run is None else [_device(path) for path in sorted(Path(str(run), "latency").glob("*/table.json"))]
    known = {name: "measured" for name in measured if name is not None}
    return list((known | {name: "runtime" for name in VALUES["runtime"] if name not in known}).items())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _device(table: Path) -> str | None:
    """The device as `--device` takes it, without settings that are 1; None if the file is damaged."""
    try:
        found = read_json(table)["device"]
        settings = ",".join(f"{key}={found[key]}" for key in ("threads", "batch") if found[key] != 1)
        return f"{found['runtime']}{':' if settings else ''}{settings}" + (f"@{found['host']}" if found["host"] else "")
    except (OnceForAllError, LookupError, TypeError):
        return None
