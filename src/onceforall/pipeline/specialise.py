"""`ofa specialise`: for each budget the best network, exported, proven and measured through the exported file."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arch import Arch
from ..calibrate import Accuracy
from ..data import Splits
from ..errors import DeviceError, FileError, InfeasibleError, VerificationError
from ..export import FORMATS, CardFacts, FileRow, InputSteps, LatencyRow, export_network
from ..files import make_folder, write_json
from ..latency import Device, LatencyTable, Timing, measure_onnx
from .evaluate import calibrated
from .given import given
from .run import Run
from .search import Budget, Candidate, Searcher
from .through_files import measure_files

__all__ = ["Specialised", "specialise"]

PROOF_IMAGES = 64
INT8_IMAGES = 128  # that ranges of activations are taken from
MAX_DROP = 2.0
CONFIRMATIONS = 3
SEARCHES = 3
TOLERANCE = 0.1  # of the latency budget


@dataclass(frozen=True)
class Specialised:
    """A network to take home: where it lies, how it was chosen, and what was measured through the exported file."""

    folder: Path
    budget: Budget
    chosen: Candidate
    test: Accuracy
    timing: Timing
    files: tuple[FileRow, ...] = ()


def specialise(
    folder: Path,
    budgets: Sequence[Budget],
    *,
    device: str = "cpu",
    export: Sequence[str] = ("onnx",),
    out: Path | None = None,
    finalists: int = 5,
    seed: int = 0,
    max_drop: float = MAX_DROP,
    arch: Arch | None = None,
    name: str | None = None,
    on_step: Callable[[str], None] = lambda text: None,
    on_result: Callable[[Specialised], None] = lambda result: None,
) -> list[Specialised]:
    """Find, export and prove one network for each budget, on a run with a profile and a predictor.

    Args:
        folder: the run directory.
        budgets: what each network may cost.
        device: that was profiled; without latency limits it need not be.
        export: formats, see `onceforall.export.FORMATS`.
        out: where the folders of the networks go; None for specialised/ in the run directory.
        finalists: best predicted networks that are measured before one is chosen.
        seed: of the search.
        max_drop: most points of held-out top-1 that an int8 file may lose.
        arch: take this network instead of searching one; it is measured, and must keep the latency.
        name: of the folder of the one network, instead of one made of device and budget.
        on_step: called with what is being done.
        on_result: called with each network as soon as it is in its folder.

    Raises:
        InfeasibleError: nothing in the space keeps a budget.
        DeviceError: a network takes longer than its budget when timed once more, because the machine is noisy.
        VerificationError: an exported file does not compute what the network computes.
        OnceForAllError: with one line on what is wrong and what to do.
    """
    if unknown := [name for name in export if name not in FORMATS]:
        raise VerificationError(f"unknown export format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    if not 0 <= max_drop <= 100:
        raise VerificationError(f"--max-drop {max_drop:g}: give points of top-1, from 0 to 100")
    run = Run.open(folder)
    run.require_images()
    for one in export:
        FORMATS[one].require()
    searcher = Searcher(run, device, budgets)
    make_folder(run.folder / "specialised")
    place = make_folder(Path(out) if out else run.folder / "specialised")
    names = [name or _name(searcher.device, budget) for budget in budgets]
    if len(set(names)) < len(names):
        raise FileError(f"two of the budgets are so alike that their networks would have one folder, {max(names, key=names.count)}")
    results = []
    for budget, own in zip(budgets, names, strict=True):
        target = place / own
        if arch is None:
            chosen, timing = _confirmed(searcher, budget, finalists, seed, on_step)
        else:
            on_step("measuring the network")
            chosen, timing = given(searcher, budget, arch, tries=CONFIRMATIONS, tolerance=TOLERANCE)
        on_step(f"exporting and proving {target.name}")
        results.append(_take_home(run, searcher, budget, chosen, timing, target, export, max_drop))
        on_result(results[-1])
    return results


def _confirmed(
    searcher: Searcher, budget: Budget, finalists: int, seed: int, on_step: Callable[[str], None]
) -> tuple[Candidate, Timing]:
    """The best candidate that keeps the latency budget when it is timed once more, alone; searches below it if none does.

    What disturbs a measurement makes it longer, so the shortest of up to `CONFIRMATIONS` counts.

    Raises:
        DeviceError: after `SEARCHES` searches none keeps it by more than the tolerance.
    """
    closest: tuple[float, Candidate, Timing] | None = None
    aim = budget
    for _ in range(SEARCHES):
        try:
            candidates = searcher.find(aim, finalists=finalists, seed=seed, on_step=on_step)[:finalists]
        except InfeasibleError:
            if closest is None:
                raise
            break  # nothing below the limit that was asked for; the closest may be close enough
        for candidate in candidates:
            for _ in range(CONFIRMATIONS):
                timing = searcher.time(candidate.arch)
                if budget.latency_ms is None or timing.ms <= budget.latency_ms:
                    return candidate, timing
                over = timing.ms / budget.latency_ms - 1
                if closest is None or over < closest[0]:
                    closest = over, candidate, timing
        assert closest is not None
        assert aim.latency_ms is not None  # without a latency limit the first candidate is taken
        aim = replace(aim, latency_ms=0.98 * aim.latency_ms / (1 + closest[0]))
    assert closest is not None
    over, candidate, timing = closest
    if over > TOLERANCE:
        raise DeviceError(
            f"networks found for {budget} took {timing.ms:.3g} ms or more when timed once more: the machine is too noisy, try "
            "again when it is quiet"
        )
    return candidate, timing


def _take_home(
    run: Run,
    searcher: Searcher,
    budget: Budget,
    chosen: Candidate,
    confirmed: Timing,
    target: Path,
    export: Sequence[str],
    max_drop: float,
) -> Specialised:
    table, device = searcher.table, searcher.device
    arch, splits = chosen.arch, searcher.splits
    data = Path(run.require_images().source).name
    ready = calibrated(run, searcher.supernet, arch, splits)
    test = run.open_test(splits, f"ofa specialise, card of {target.name}")
    formats = list(dict.fromkeys(("pytorch", *export)))
    found: list[tuple[Accuracy, Timing, list[FileRow]]] = []

    def measure(files: Path) -> CardFacts:
        accuracy, rows = measure_files(
            run,
            files,
            formats,
            arch=arch,
            network=ready,
            test=test,
            held_out=splits.held_out,
            device=device,
            max_drop=max_drop,
        )
        model, shape = files / "model.onnx", (3, arch.resolution, arch.resolution)
        timing = confirmed
        if model.exists() and device.runtime in ("onnxruntime", "openvino"):
            timing = measure_onnx(model.read_bytes(), shape, device, rounds=80, anchor=searcher.anchor)
        found.append((accuracy, timing, rows))
        method = f"{searcher.hardware}, "
        method += f"lower quartile of {timing.repeats} calls, drift removed" if timing.repeats else "estimated from imported times"
        return CardFacts(
            name=f"{data} within {budget} on {device.spec}",
            data=data,
            top1=accuracy.top1,
            top5=accuracy.top5 if run.num_classes > 5 else None,
            test_images=accuracy.images,
            latency=[LatencyRow(device.spec, method, timing.ms, timing.low, timing.high)],
            made_with=[str(run.info.environment["command"])],
            files=rows,
            notes=[f"The supernet's weights were imported: {run.info.imported}."] if run.info.imported else [],
        )

    shares = {} if table is None else _shares(table, arch)
    export_network(
        target,
        space=run.space,
        arch=arch,
        network=ready.network,
        classes=run.info.classes,
        preprocessing=_input_steps(run),
        formats=export,
        images=_proof_images(run, splits, arch.resolution),
        measure=measure,
        shares=shares,
        supernet=searcher.supernet,
        calibration=_int8_images(run, splits, arch.resolution) if any(FORMATS[name].int8 for name in formats) else None,
    )
    accuracy, timing, rows = found[0]
    write_json(
        run.folder / "specialised" / f"{target.name}.json",
        {
            "folder": str(target),
            "arch": arch.to_json(),
            "device": str(device),
            "budget": asdict(budget),
            "shares": shares,
            "predicted_top1": chosen.predicted_top1,
            "held_out_top1": chosen.accuracy.top1,
            "predicted_ms": chosen.predicted_ms,
            "test": asdict(accuracy),
            "latency": asdict(timing),
            "files": [asdict(row) for row in rows],
        },
    )
    return Specialised(target, budget, chosen, accuracy, timing, tuple(rows))


def _name(device: Device, budget: Budget) -> str:
    """A folder name that tells the device and the limits, such as "onnxruntime-5ms" or "onnxruntime-threads2-5ms"."""
    units = {
        "latency_ms": "ms",
        "macs": "macs",
        "params": "params",
        "memory_bytes": "bytes",
        "flash_bytes": "flash",
        "ram_bytes": "ram",
    }
    parts = [f"{value:.4g}{units[name]}" for name, value in asdict(budget).items() if value is not None]
    settings = [f"{key}{value}" for key, value in (("threads", device.threads), ("batch", device.batch)) if value != 1]
    where = [] if device.host is None else [re.sub(r"[^\w.-]+", "-", device.host.removeprefix("ssh://"), flags=re.ASCII)]
    return "-".join([device.runtime, *where, *settings, *(parts or ["best"])]).replace("+", "")


def _shares(table: LatencyTable, arch: Arch) -> dict[str, float]:
    """Share of the estimated latency of each segment that the network has."""
    segments = table.costs.segments
    genes = segments.space.genes([arch])
    codes = [int(slot.codes(genes)[0]) for slot in segments.slots]
    total = float(table.estimate(genes)[0])
    return {
        slot.name: float(values[code]) / total
        for slot, values, code in zip(segments.slots, table.costs.values, codes, strict=True)
        if slot.segments[code] is not None
    }


def _input_steps(run: Run) -> InputSteps:
    steps = run.preprocessing
    resize = f"short side to {run.require_images().size} pixels if longer, then to ceil(resolution / {steps.crop_share:g}), "
    resize += "each bilinear with antialias, then centre crop"
    return InputSteps(steps.mean, steps.std, steps.crop_share, resize)


def _proof_images(run: Run, splits: Splits, resolution: int) -> Tensor:
    """Held-out images, preprocessed (n, 3, resolution, resolution)."""
    images = splits.held_out
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:PROOF_IMAGES])
    return next(iter(run.eval_batches(images.subset(chosen), resolution)))[0]


def _int8_images(run: Run, splits: Splits, resolution: int) -> Tensor:
    """Training images, preprocessed (n, 3, resolution, resolution)."""
    return torch.cat(list(run.calibration_batches(splits, resolution, INT8_IMAGES)))
