"""`ofa specialise`: for each budget the best network, exported, proven and measured through the exported file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..accuracy.rows import AccuracyRow
from ..backends import RUNTIMES
from ..backends.onnxruntime import require_opset, require_readable
from ..calibrate import Accuracy, Calibrated
from ..common.files import make_folder, recording, writable, write_json
from ..common.onnx_options import HARD_SWISH, OPSET
from ..errors import FileError, VerificationError
from ..export import (
    FORMATS,
    CardFacts,
    FileRow,
    OnnxOptions,
    Reading,
    export_network,
    push,
    readers_of,
    require_pushable,
    room_for_export,
)
from ..latency import Device, Timing
from ..options.choosing import SpecialiseOptions
from ..options.declare import takes
from ..options.shared import Budget
from ..train.schedule import whole
from .evaluate import held_out_thresholds
from .run_directory.run import Run
from .search import FINALIST_IMAGES, Candidate, Searcher
from .specialising.choose import confirmed, given, name_in
from .specialising.export_inputs import input_steps, int8_images, latency_shares, proof_images, trained_on
from .specialising.finetune import FOLDER, Finetuned, Finetuning, untuned
from .specialising.ready import make_ready
from .specialising.through_files import FoundThroughFiles, measure_files, require_drop_can_be_told

Event = dict[str, Any]


@dataclass(frozen=True)
class Specialised:
    """A network to take home: where it lies, how it was chosen, and what was measured through the exported file.

    `left_out` are formats that are not in the folder, because int8 loses too much, and why in one line.
    """

    folder: Path
    budget: Budget
    chosen: Candidate
    test: Accuracy
    timing: Timing
    files: tuple[FileRow, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    pushed: str | None = None  # address on the Hugging Face Hub
    finetuned: Finetuned | None = None
    readings: tuple[Reading, ...] = ()  # of the ONNX files in other programs


@takes(SpecialiseOptions)
def specialise(
    options: SpecialiseOptions,
    *,
    on_step: Callable[[str], None] = lambda text: None,
    on_result: Callable[[Specialised], None] = lambda result: None,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Specialised]:
    """Find, export and prove one network for each device and budget.

    Devices with a latency limit that were not profiled are profiled first, and where there is no predictor, accuracies are measured
    and one is fitted; `on_step` says so, and how long it takes.

    Args:
        options: see `SpecialiseOptions`; in its place, its fields by their names.
        on_step: called with what is being done.
        on_result: called with each network as soon as it is in its folder.
        on_event: gets progress of the fine-tuning, as `ofa train` shows it.
        should_stop: asked after every step of the fine-tuning; True stops with a checkpoint.

    Raises:
        InfeasibleError: nothing in the space keeps a budget.
        DeviceError: a network takes longer than its budget when timed once more, because the machine is noisy.
        VerificationError: an exported file does not compute what the network computes, or the held-out images are too few to tell
            whether int8 loses too much.
        HubError: the Hugging Face Hub does not take a network; all are in their folders.
        OnceForAllError: with one line on what is wrong and what to do.
    """
    if unknown := [name for name in options.export if name not in FORMATS]:
        raise VerificationError(f"unknown export format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    if not 0 <= options.max_drop <= 100:
        raise VerificationError(f"--max-drop {options.max_drop:g}: give points of top-1, from 0 to 100")
    whole("--finetune", options.finetune, 0)
    _require_used(options.export, options.onnx, options.readers)
    run = Run.open(options.folder, options.data)
    run.require_images()
    for format in options.export:
        FORMATS[format].require()
    devices = [Device.parse(device) for device in options.devices]
    onnx = options.onnx or OnnxOptions(HARD_SWISH if all(map(_in_openvino, devices)) else OPSET)
    onnx = replace(onnx, activation=run.task.activation)
    if any(FORMATS[format].is_onnx for format in options.export):
        require_readable(onnx)
    if "onnx-int8" in options.export:
        require_opset(onnx)
    place = writable(Path(options.out) if options.out else run.folder / "specialised")
    unfinished = run.folder / FOLDER
    names = [options.name or name_in(place, unfinished, device, budget) for device in devices for budget in options.budgets]
    if len(set(names)) < len(names):
        raise FileError(
            f"two of the devices and budgets are so alike that their networks would have one folder, {max(names, key=names.count)}"
        )
    for own in names:
        room_for_export(place / own)
    hub = options.push_to_hub
    repos = [] if hub is None else [hub] if len(names) == 1 else [f"{hub}-{name}" for name in names]
    if repos:
        require_pushable(repos)
    make_ready(run, options, on_step)
    first, *others = options.devices
    searcher = Searcher(run, first, options.budgets, images=FINALIST_IMAGES, on_note=on_step)
    if not run.task.several:
        require_drop_can_be_told(options.export, len(searcher.splits.held_out), options.max_drop)
    searchers = [searcher, *(searcher.on(other, options.budgets) for other in others)]
    jobs = zip([(each, budget) for each in searchers for budget in options.budgets], names, strict=True)
    options, results = replace(options, onnx=onnx), []
    finalists, seed, arch = options.finalists, options.seed, options.arch
    for (each, budget), own in jobs:
        target, epochs = place / own, options.finetune
        tuning = Finetuning(each, own, budget, epochs, seed, on_event, should_stop, arch) if epochs else None
        if arch is None:
            choose = partial(confirmed, each, budget, finalists=finalists, seed=seed, on_step=on_step)
        else:
            choose = partial(given, each, budget, arch, on_step=on_step)
        with tuning.at_work() if tuning else nullcontext():
            chosen, timing = tuning.choose(choose) if tuning else choose()
            ready, tuned = tuning.finish(chosen, on_step) if tuning else (untuned(each, chosen.arch), None)
            on_step(f"exporting and proving {target.name}")
            results.append(_take_home(each, budget, chosen, timing, target, options, ready, tuned, on_step))
            if tuning:
                tuning.forget()
        on_result(results[-1])
    for i, repo in enumerate(repos):
        results[i] = replace(results[i], pushed=push(results[i].folder, repo))
        on_step(f"pushed: {results[i].pushed}")
    return results


def _take_home(
    searcher: Searcher,
    budget: Budget,
    chosen: Candidate,
    confirmed: Timing,
    target: Path,
    options: SpecialiseOptions,
    ready: Calibrated,
    tuned: Finetuned | None,
    on_step: Callable[[str], None],
) -> Specialised:
    run, table, device = searcher.run, searcher.table, searcher.device
    arch, splits, onnx = chosen.arch, searcher.splits, options.onnx
    assert onnx is not None
    data = Path(run.require_images().source).name
    test = run.open_test(splits, f"ofa specialise, card of {target.name}")
    formats = list(dict.fromkeys(("pytorch", *options.export)))
    found: list[tuple[FoundThroughFiles, Timing]] = []
    thresholds = held_out_thresholds(run, ready, splits, arch.resolution)

    def measure(files: Path) -> CardFacts:
        through = measure_files(
            run,
            files,
            formats,
            resolution=arch.resolution,
            test=test,
            held_out=splits.held_out,
            device=device,
            max_drop=options.max_drop,
            anchor=searcher.anchor,
            limit_ms=budget.latency_ms,
            onnx=onnx,
            thresholds=thresholds,
            on_step=on_step,
        )
        timing = through.timing or confirmed
        found.append((through, timing))
        method = f"{searcher.hardware}, "
        method += f"lower quartile of {timing.repeats} calls, drift removed" if timing.repeats else "estimated from imported times"
        return CardFacts(
            name=f"{data} within {budget} on {device.spec}",
            data=data,
            top1=through.test.top1,
            top5=through.test.top5 if run.num_classes > 5 and not run.task.several else None,
            test_images=through.test.images,
            latency=[(device.spec, method, (timing.ms, timing.low, timing.high))],
            made_with=[str(run.info.environment["command"])],
            files=through.rows,
            confusion=through.confusion,
            labels=through.labels,
            left_out=through.left_out,
            license=options.license,
            notes=[*run.info.notes, *(tuned.notes if tuned else ()), *_of_latency(device, onnx, through)],
        )

    shares = {} if table is None else latency_shares(table, arch)
    exported = export_network(
        target,
        space=run.space,
        arch=arch,
        network=ready.network,
        classes=run.info.classes,
        preprocessing=input_steps(run, arch.resolution),
        formats=options.export,
        images=proof_images(run, splits, arch.resolution),
        measure=measure,
        shares=shares,
        supernet=None if tuned and tuned.taken else searcher.supernet,
        calibration=int8_images(run, splits, arch.resolution) if any(FORMATS[name].int8 for name in formats) else None,
        onnx=onnx,
        readers=options.readers,
        task=run.task,
        thresholds=thresholds,
        trained_on=trained_on(run, splits.train if tuned and tuned.taken else None),
    )
    through, timing = found[0]
    held_out = tuned.held_out if tuned else chosen.accuracy
    record = {
        "folder": str(target.absolute()),
        "arch": arch.to_json(),
        "device": str(device),
        "budget": asdict(budget),
        "shares": shares,
        "predicted_top1": chosen.predicted_top1,
        "held_out_top1": held_out.top1,
        "held_out_score": held_out.value if isinstance(held_out, AccuracyRow) else held_out.score(run.metric),
        "held_out_images": held_out.images,
        "predicted_ms": chosen.predicted_ms,
        "test": asdict(through.test),
        "confusion": None if through.confusion is None else through.confusion.to_json(),
        "labels": None if through.labels is None else through.labels.to_json(),
        "mistakes": [asdict(mistake) for mistake in through.mistakes],
        "latency": asdict(timing),
        "files": [asdict(row) for row in through.rows],
        "left_out": dict(through.left_out),
        "proofs": {format: asdict(proof) for format, proof in exported.proofs.items()},
        "readers": [asdict(reading) for reading in exported.readings],
        "finetuned": None if tuned is None else asdict(tuned),
    }
    with recording(f"for ofa status and ofa report, that {target} was exported is"):
        write_json(make_folder(run.folder / "specialised") / f"{target.name}.json", record)
    return Specialised(
        target,
        budget,
        chosen,
        through.test,
        timing,
        tuple(through.rows),
        through.left_out,
        finetuned=tuned,
        readings=tuple(exported.readings),
    )


def _require_used(export: Sequence[str], onnx: OnnxOptions | None, readers: Sequence[str] | None) -> None:
    """Do nothing if what was asked of ONNX files and readers means something for these formats.

    Raises:
        VerificationError: it would be dropped, or there is no such reader.
        MissingExtraError: see `readers_of`.
    """
    formats, given = [FORMATS[name] for name in export], ",".join(export)
    if onnx is not None and not any(format.from_onnx for format in formats):
        raise VerificationError(f"options of ONNX files, but --export {given} makes none: add onnx, or leave them out")
    if any(format.is_onnx for format in formats):
        if readers is not None:
            readers_of(readers)
        return
    if onnx is not None and onnx.opset != OPSET:
        raise VerificationError(
            f"--opset {onnx.opset} is of ONNX files, but --export {given} makes none: add onnx, or leave it out"
        )
    if readers:
        raise VerificationError(f"--readers {','.join(readers)} read ONNX files, but --export {given} makes none: add onnx")


def _in_openvino(device: Device) -> bool:
    return not device.imported and RUNTIMES[device.runtime].opset == HARD_SWISH


def _of_latency(device: Device, onnx: OnnxOptions, through: FoundThroughFiles) -> list[str]:
    """Why files have no latency, or another than the search went by."""
    if device.imported:
        return []
    notes, here = [], [FORMATS[row.format] for row in through.rows]
    own = [format for format in here if format.runtime.name == device.runtime]
    if in_another := [format.files[0] for format in here if not format.takes_batch(device.batch, onnx)]:
        notes.append(
            f"Latency was measured with {device.batch} images a call, as --device says. Not timed, since made for another number: "
            f"{', '.join(in_another)}."
        )
    if through.timing is None and own:
        notes.append("The latency at the top is that of the same network, measured before the export.")
    elif through.timing is None:
        notes.append(
            f"No file of this folder runs in {device.runtime}: the latency at the top is the network's, measured there before the "
            "export."
        )
    elif device.runtime == "openvino" and not own and onnx.opset < HARD_SWISH:
        notes.append(
            f"The search went by networks of opset {HARD_SWISH}, in which OpenVINO runs h-swish faster than in opset {onnx.opset} "
            f"of model.onnx: --opset {HARD_SWISH} or --export openvino gives such a file."
        )
    return notes
