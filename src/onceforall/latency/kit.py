"""Latency of devices without ssh or Python: export model files to time there, and import the times from a CSV file."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import make_folder, read_json, read_text, reading_or_writing, write_bytes, write_json, write_text
from ..common.progress import QUIET, Progress
from ..common.readable import amount, milliseconds
from ..errors import DeviceError, FileError
from ..nn.onnx import to_onnx
from ..plan import Plan
from ..space import Space
from .design import Design, Effort, key_of
from .device import Device
from .networks import random_weights
from .table import LatencyTable, Measured, space_hash

FORMAT = "onceforall.kit/1"
MANIFEST, RESULTS = "manifest.json", "results.csv"
HEADER = ["file", "ms"]
SEPARATORS = ",;\t"
# Plausibility bounds of a time, wide enough for microcontrollers and data-center GPUs
RATES = 1e4, 1e14  # MACs per second
ALIKE = 10.0  # maximum ratio of a network's time per MAC to the median, either way
FASTER = 100.0  # maximum ratio by which a single segment may be faster than the median
SLOWER = 3.0  # maximum time of a single segment, relative to the slowest network
MOST_ERROR = 0.5  # mean error of the table above which the times must be those of other models


def export_kit(
    space: Space, num_classes: int, folder: Path, effort: Effort, *, seed: int = 0, progress: Progress = QUIET
) -> list[str]:
    """Write every model to time as ONNX with random weights, a manifest, and a results.csv to fill in.

    An interrupted export resumes where it stopped.

    Args:
        space: the space of the latency table.
        effort: how many models to write.
        progress: its `count` receives the number of files written, the total, and what they are.

    Returns:
        The files' names, relative to the folder.

    Raises:
        FileError: the folder contains something else, or cannot be written.
        MissingExtraError: the package onnx is not installed.
    """
    design = Design(space, num_classes, effort, seed)
    plans = {f"models/{key_of(plan)}.onnx": plan for plan in (*design.pieces, *design.first, *design.more)}
    content = {
        "format": FORMAT,
        "space_hash": space_hash(space, num_classes),
        "effort": {"resolutions": effort.resolutions, "fit": effort.fit, "test": effort.test},
        "seed": seed,
        "input": "images",
        "models": [{"file": name, "input_shape": [1, *plan.input_shape], "macs": plan.macs} for name, plan in plans.items()],
    }
    manifest = make_folder(folder) / MANIFEST
    with reading_or_writing(folder):
        others = [path for path in folder.iterdir() if path.suffix != ".tmp"]
    if read_json(manifest) != content if manifest.exists() else others:
        raise FileError(f"{folder}: exists and is not a kit of this space: choose another folder")
    write_json(manifest, content)
    make_folder(folder / "models")
    for done, (name, plan) in enumerate(plans.items()):
        progress.count(done, len(plans), "models")
        if not (folder / name).exists():
            write_bytes(folder / name, to_onnx(plan, random_weights(plan), batch=1))
    if not (folder / RESULTS).exists():
        write_text(folder / RESULTS, "\n".join([",".join(HEADER), *(f"{name}," for name in plans)]) + "\n")
    progress.count(len(plans), len(plans), "models")
    return list(plans)


def import_results(space: Space, num_classes: int, results: Path, name: str) -> LatencyTable:
    """Make the latency table of a device from the times of a kit's models.

    Args:
        results: the completed results.csv, with milliseconds per call with one image, next to the kit's manifest.json. Columns may
            be separated by commas, semicolons or tabs, as spreadsheets write them; with semicolons or tabs, 1,5 means 1.5.
        name: name of the device.

    Raises:
        FileError: a file that cannot be read or does not belong to a kit.
        DeviceError: times are missing, duplicate, implausible or for other models, or the kit belongs to another space.
    """
    device = Device("imported", host=name)
    if not (results.parent / MANIFEST).exists():
        raise FileError(f"{results}: must be in the kit's folder, next to {MANIFEST}, which is missing")
    manifest: Any = read_json(results.parent / MANIFEST)
    try:
        if manifest["format"] != FORMAT:
            raise ValueError("another format")
        effort, seed = Effort(**manifest["effort"]), int(manifest["seed"])
        kit = str(manifest["space_hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{results.parent / MANIFEST}: not the manifest of a kit ({error!r}): ofa profile --export-kit makes one"
        ) from None
    if kit != space_hash(space, num_classes):
        raise DeviceError(f"{results.parent}: this kit is for another search space or number of classes: export one from this run")
    design = Design(space, num_classes, effort, seed)
    times = _read(results)
    plans = [*design.pieces, *design.first, *design.more]
    wanted = [f"models/{key_of(plan)}.onnx" for plan in plans]
    if missing := sorted(set(wanted) - set(times)):
        raise DeviceError(
            f"{results}: {len(missing)} of {len(set(wanted))} models have no time, such as {missing[0]}: measure them too"
        )
    if unknown := sorted(set(times) - set(wanted)):
        raise DeviceError(f"{results}: {unknown[0]} is not a model of this kit: remove its line")
    _check_plausible(results, times, dict(zip(wanted, plans, strict=True)))
    in_order, n, m = [times[file] for file in wanted], len(design.pieces), len(design.pieces) + len(design.first)
    costs, errors = design.fit(in_order[:n], in_order[n:m], in_order[m:])
    if errors.mape > MOST_ERROR:
        raise DeviceError(
            f"{results}: these times do not fit the kit's models: the table is off by {errors.mape:.0%} on average: measure again"
        )
    return LatencyTable(costs, num_classes, name, Measured(device, "", 1.0, 1.0, errors))


def _check_plausible(path: Path, times: Mapping[str, float], plans: Mapping[str, Plan]) -> None:
    """Raise a `DeviceError` for an implausible time: a wrong unit, a wrong line, a disturbed measurement."""
    whole = [file for file, plan in plans.items() if len(plan.segments) > 1]
    usual = float(np.median([times[file] / plans[file].macs for file in whole]))
    slowest = max(times[file] for file in whole)
    for file, plan in plans.items():
        ms, macs = times[file], plan.macs
        if len(plan.segments) > 1:
            low, high = macs * usual / ALIKE, macs * usual * ALIKE
        else:
            low, high = macs * usual / FASTER, SLOWER * slowest
        if not max(low, 1e3 * macs / RATES[1]) <= ms <= high or (len(plan.segments) > 1 and ms > 1e3 * macs / RATES[0]):
            raise DeviceError(
                f"{path}: {file}: {ms:g} ms for {amount(macs)} MACs cannot be right, as the networks of this kit take "
                f"{milliseconds(1e6 * usual)} per 1 M MACs: give milliseconds per call, or measure it again"
            )


def _read(path: Path) -> dict[str, float]:
    times: dict[str, float] = {}
    text = read_text(path)
    heads = {mark: next(csv.reader(io.StringIO(text), delimiter=mark), []) for mark in SEPARATORS}
    separator = next((mark for mark, head in heads.items() if [cell.strip() for cell in head] == HEADER), None)
    if separator is None:
        raise DeviceError(f"{path}: the first line must be {','.join(HEADER)}, separated by a comma, a semicolon or a tab")
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    next(rows)
    for row in rows:
        if not row or (len(row) == len(HEADER) and not row[1].strip()):
            continue  # not measured
        file, text = row[0].strip().replace("\\", "/"), row[-1].strip()
        try:
            ms = float(text if separator == "," else text.replace(",", "."))
        except ValueError:
            ms = math.nan
        if len(row) != len(HEADER) or not math.isfinite(ms) or ms <= 0:
            raise DeviceError(f"{path}: line {rows.line_num}: {text!r} is not a time in ms: give a number above 0 after the file")
        if file in times:
            raise DeviceError(f"{path}: line {rows.line_num}: {file} occurs twice: keep one line")
        times[file] = ms
    return times
