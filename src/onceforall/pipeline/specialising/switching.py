"""Time to switch between the networks of a bundle, compared with loading exported networks from disk."""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from torch import Tensor

from ...export import FORMATS, Bundle, Sizes, Switch, load_bundle

ROUNDS = 9
WAYS = ("first", "again", "steady", "anew", "alone")


def write_separately(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Export each network of a bundle separately (weights.safetensors and model.py); folders by name."""
    places = {}
    for name, member in bundle.members.items():
        places[name] = folder / name
        places[name].mkdir()
        FORMATS["pytorch"].write(places[name], bundle.config.job(member.arch, bundle.network(name)))
    return places


def measure_switching(
    folder: Path, separate: Mapping[str, Path], images: Mapping[str, Tensor], *, threads: int, rounds: int = ROUNDS
) -> tuple[float, dict[str, Switch]]:
    """Milliseconds to read the bundle, and to switch to each network after another one ran; medians.

    Args:
        separate: the folder of each network's own export, by name.
        images: an input for each network, by name.
        threads: torch's current number of threads.
        rounds: how often everything is timed.
    """
    times: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in images}
    loads: list[float] = []

    @contextmanager
    def timed(milliseconds: list[float]) -> Iterator[None]:
        started = perf_counter()
        yield
        milliseconds.append(1e3 * (perf_counter() - started))

    for _ in range(rounds):
        with timed(loads):
            bundle = load_bundle(folder)
        for way in ("first", "again"):
            for name, x in images.items():
                with timed(times[name][way]):
                    bundle(x, name)
        for name, x in images.items():
            bundle(x, name)
            with timed(times[name]["steady"]):
                bundle(x, name)
        for name, x in images.items():
            with timed(times[name]["anew"]):
                alone = FORMATS["pytorch"].load(separate[name], threads)
                alone(x)
            with timed(times[name]["alone"]):
                alone(x)
    found = {
        name: Switch(**{way: statistics.median(values) for way, values in by.items()}, rounds=rounds) for name, by in times.items()
    }
    return statistics.median(loads), found


def compare_sizes(folder: Path, bundle: Bundle, separate: Mapping[str, Path]) -> Sizes:
    """Bytes of the bundle and of separate exports: files on disk; weights and statistics in memory.

    In the bundle's memory, tensors that share a storage count once.
    """
    files = FORMATS["pytorch"].files
    tensors = [tensor for name in bundle.names for tensor in bundle.network(name).state_dict().values()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return Sizes(
        disk=sum((folder / file).stat().st_size for file in files),
        disk_separate=sum((place / file).stat().st_size for place in separate.values() for file in files),
        memory=sum(storages.values()),
        memory_separate=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )
