"""Time to switch between the networks of a bundle, compared with loading exported networks from disk."""

import statistics
from collections.abc import Mapping
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
        rounds: number of timings of everything.
    """
    times: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in images}
    loads = []
    for _ in range(rounds):
        started = perf_counter()
        bundle = load_bundle(folder)
        loads.append(1e3 * (perf_counter() - started))
        for way in ("first", "again"):
            for name, x in images.items():
                started = perf_counter()
                bundle(x, name)
                times[name][way].append(1e3 * (perf_counter() - started))
        for name, x in images.items():
            bundle(x, name)
            started = perf_counter()
            bundle(x, name)
            times[name]["steady"].append(1e3 * (perf_counter() - started))
        for name, x in images.items():
            started = perf_counter()
            alone = FORMATS["pytorch"].load(separate[name], threads)
            alone(x)
            times[name]["anew"].append(1e3 * (perf_counter() - started))
            started = perf_counter()
            alone(x)
            times[name]["alone"].append(1e3 * (perf_counter() - started))
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
