"""`ofa specialise`: the best network for each budget, exported, verified and measured through the exported file."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..accuracy.rows import AccuracyRow
from ..backends import RUNTIMES
from ..backends.onnxruntime import require_opset, require_readable
from ..calibrate import Calibrated
from ..common.arguments import takes
from ..common.files import make_folder, recording, writable, write_json
from ..common.onnx_options import HARD_SWISH, OPSET
from ..common.progress import QUIET, Progress
from ..common.records import json_of
from ..errors import FileError, VerificationError
from ..export import FORMATS, CardFacts, ExportConfig, OnnxOptions, exporting, push, readers_of, require_pushable, room_for_export
from ..latency import Device, Timing
from ..options.choosing import SpecialiseOptions
from ..options.shared import Budget
from ..train.schedule import whole
from .evaluate import held_out_thresholds
from .run_directory.images import of_commit, short_name
from .run_directory.run import Run
from .search import FINALIST_IMAGES, Candidate, Searcher
from .specialising.choose import confirmed, measure_given, name_in
from .specialising.export_inputs import input_steps, int8_images, latency_shares, proof_images, trained_on
from .specialising.finetune import FOLDER, Finetuned, Finetuning, untuned
from .specialising.ready import make_ready
from .specialising.record import Specialised
from .specialising.through_files import FileResults, measure_files, require_enough_held_out


@takes(SpecialiseOptions)
def specialise(options: SpecialiseOptions, *, progress: Progress = QUIET) -> list[Specialised]:
    """Find, export and verify one network for each device and budget.

    First, with a latency limit, devices that have no profile are profiled, and if there is no predictor, accuracies are measured
    and one is fitted; `progress` reports this and how long it takes.

    Args:
        progress: see `Progress`; its `result` gets each network as soon as it is in its folder.

    Raises:
        InfeasibleError: no network in the space meets a budget.
        DeviceError: when timed once more, a network exceeds its budget because the machine is noisy.
        VerificationError: an exported file does not compute what the network does, or there are too few held-out images to
            decide whether int8 loses too much.
        HubError: the Hugging Face Hub rejects a network; all networks are in their folders.
    """
    run, options = _checked(options)
    targets = _targets(run, options)
    hub = options.push_to_hub
    repos = [] if hub is None else [hub] if len(targets) == 1 else [f"{hub}-{target.name}" for target in targets]
    if repos:
        require_pushable(repos)
    make_ready(run, options, progress)
    results: list[Specialised] = []
    for job in _jobs(run, options, targets, progress):
        tuning = job.finetuning() if options.finetune else None
        with tuning.at_work() if tuning else nullcontext():
            chosen, timing = tuning.choose(job.choose) if tuning else job.choose()
            ready, tuned = tuning.finish(chosen) if tuning else (untuned(job.searcher, chosen.arch), None)
            progress.say(f"exporting and verifying {job.target.name}")
            results.append(job.export(chosen, timing, ready, tuned))
        if same := next((other for other in results[:-1] if other.arch == results[-1].arch), None):
            progress.say(f"{job.target.name}: same network as {same.folder.name}")
        progress.result(results[-1])
    for i, repo in enumerate(repos):
        results[i] = replace(results[i], pushed=push(results[i].folder, repo))
        progress.say(f"pushed: {results[i].pushed}")
    return results


def _checked(options: SpecialiseOptions) -> tuple[Run, SpecialiseOptions]:
    """The run, and the options with the ONNX options filled in; options that cannot work are rejected before any measurement."""
    if unknown := [name for name in options.export if name not in FORMATS]:
        raise VerificationError(f"unknown export format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    if not 0 <= options.max_drop <= 100:
        raise VerificationError(f"--max-drop {options.max_drop:g}: give points of top-1, from 0 to 100")
    whole("--finetune", options.finetune, 0)
    _require_used(options.export, options.onnx, options.readers)
    run = Run.open(options.folder, options.data).judged_by(options.metric)
    run.require_images()
    for format in options.export:
        FORMATS[format].require()
    devices = [Device.parse(device) for device in options.devices]
    all_in_openvino = all(not device.imported and RUNTIMES[device.runtime].opset == HARD_SWISH for device in devices)
    onnx = options.onnx or OnnxOptions(HARD_SWISH if all_in_openvino else OPSET)
    onnx = replace(onnx, activation=run.task.activation)
    if any(FORMATS[format].is_onnx for format in options.export):
        require_readable(onnx)
    if "onnx-int8" in options.export:
        require_opset(onnx)
    return run, replace(options, onnx=onnx)


def _targets(run: Run, options: SpecialiseOptions) -> list[Path]:
    """A folder for each device and budget, in the order of `_jobs`; a `FileError` if two would share one, or it is taken."""
    devices = [Device.parse(device) for device in options.devices]
    place = writable(Path(options.out) if options.out else run.folder / "specialised")
    unfinished = run.folder / FOLDER
    names = [options.name or name_in(place, unfinished, device, budget) for device in devices for budget in options.budgets]
    if len(set(names)) < len(names):
        raise FileError(
            "two devices and budgets are so similar that their networks would share the folder "
            f"{max(names, key=names.count)}: leave one out"
        )
    for name in names:
        room_for_export(place / name)
    return [place / name for name in names]


def _jobs(run: Run, options: SpecialiseOptions, targets: Sequence[Path], progress: Progress) -> Iterator["_Job"]:
    first, *others = options.devices
    searcher = Searcher(run, first, options.budgets, images=FINALIST_IMAGES, progress=progress)
    if not run.task.several:
        require_enough_held_out(options.export, len(searcher.splits.held_out), options.max_drop)
    searchers = [searcher, *(searcher.on(other, options.budgets) for other in others)]
    pairs = [(each, budget) for each in searchers for budget in options.budgets]
    return (_Job(each, budget, target, options, progress) for (each, budget), target in zip(pairs, targets, strict=True))


@dataclass(frozen=True, eq=False)
class _Job:
    """One network to make, for the searcher's device and one budget."""

    searcher: Searcher
    budget: Budget
    target: Path
    options: SpecialiseOptions
    progress: Progress

    def finetuning(self) -> Finetuning:
        o = self.options
        return Finetuning(self.searcher, self.target.name, self.budget, o.finetune, o.seed, self.progress, o.arch)

    def choose(self) -> tuple[Candidate, Timing]:
        o = self.options
        if o.arch is not None:
            return measure_given(self.searcher, self.budget, o.arch, progress=self.progress)
        return confirmed(self.searcher, self.budget, finalists=o.finalists, seed=o.seed, progress=self.progress)

    def export(self, chosen: Candidate, timing: Timing, ready: Calibrated, tuned: Finetuned | None) -> Specialised:
        """Write and verify the network's files, measure through them, and write the card and the record.

        Args:
            timing: the latency measured when it was chosen.
            ready: the network, after fine-tuning if there was any.
            tuned: the result of fine-tuning.
        """
        searcher, options, arch = self.searcher, self.options, chosen.arch
        run, splits = searcher.run, searcher.splits
        test = run.open_test(splits, f"ofa specialise, card of {self.target.name}")
        thresholds = held_out_thresholds(run, ready, splits, arch.resolution)
        shares = {} if searcher.table is None else latency_shares(searcher.table, arch)
        steps = input_steps(run, arch.resolution)
        with exporting(
            self.target,
            ExportConfig(run.space, run.info.classes, steps, options.onnx, run.task.name, tuple(thresholds)),
            arch,
            ready.network,
            formats=options.export,
            images=proof_images(run, splits, arch.resolution),
            supernet=None if tuned and tuned.taken else searcher.supernet,
            calibration=int8_images(run, splits, arch.resolution) if any(FORMATS[f].int8 for f in options.export) else None,
            readers=options.readers,
            trained_on=trained_on(run, splits.train if tuned and tuned.taken else None),
        ) as made:
            through = measure_files(
                made, searcher, test, max_drop=options.max_drop, limit_ms=self.budget.latency_ms, progress=self.progress
            )
            timing = through.timing or timing
            made.finish(self._card(through, timing, tuned), shares)
        held_out = tuned.held_out if tuned else chosen.accuracy
        result = Specialised(
            folder=self.target,
            arch=arch,
            device=str(searcher.device),
            budget=self.budget,
            predicted_ms=chosen.predicted_ms,
            predicted_top1=chosen.predicted_top1,
            test=through.test,
            latency=timing,
            held_out_top1=held_out.top1,
            held_out_score=held_out.value if isinstance(held_out, AccuracyRow) else held_out.score(run.metric),
            held_out_images=held_out.images,
            shares=shares,
            files=tuple(through.rows),
            left_out=dict(through.left_out),
            confusion=through.confusion,
            mistakes=tuple(through.mistakes),
            wrong=through.wrong,
            labels=through.labels,
            proofs={name: asdict(proof) for name, proof in made.proofs.items()},
            readers=tuple(made.readings),
            finetuned=tuned,
            metric=run.metric,
            tests=dict(through.tests),
        )
        with recording(f"for ofa status and ofa report, that {self.target} was exported is"):
            place = make_folder(run.folder / "specialised") / f"{self.target.name}.json"
            write_json(place, json_of(replace(result, folder=self.target.absolute())))
        return result

    def _card(self, through: FileResults, timing: Timing, tuned: Finetuned | None) -> CardFacts:
        run, device, onnx = self.searcher.run, self.searcher.device, self.options.onnx
        assert onnx is not None
        data, commit = short_name(run.require_images().source)
        method = f"{self.searcher.hardware}, "
        method += f"lower quartile of {timing.repeats} calls, drift removed" if timing.repeats else "estimated from imported times"
        return CardFacts(
            name=f"{data} within {self.budget} on {device.spec}",
            data=data,
            top1=through.test.top1,
            top5=through.test.top5 if run.num_classes > 5 and not run.task.several else None,
            test_images=through.test.images,
            latency=[(device.spec, method, (timing.ms, timing.low, timing.high))],
            made_with=[str(run.info.environment["command"])],
            files=through.rows,
            confusion=through.confusion,
            labels=through.labels,
            metric=run.metric,
            left_out=through.left_out,
            license=self.options.license,
            notes=[*of_commit(data, commit), *run.notes, *(tuned.notes if tuned else ()), *_of_latency(device, onnx, through)],
        )


def _require_used(export: Sequence[str], onnx: OnnxOptions | None, readers: Sequence[str] | None) -> None:
    """Check that options for ONNX files and readers apply to these formats.

    Raises:
        VerificationError: an option would be ignored, or there is no such reader.
        MissingExtraError: see `readers_of`.
    """
    formats, given = [FORMATS[name] for name in export], ",".join(export)
    if onnx is not None and not any(format.from_onnx for format in formats):
        raise VerificationError(f"there are options for ONNX files, but --export {given} makes none: add onnx, or leave them out")
    if any(format.is_onnx for format in formats):
        if readers is not None:
            readers_of(readers)
        return
    if onnx is not None and onnx.opset != OPSET:
        raise VerificationError(
            f"--opset {onnx.opset} is for ONNX files, but --export {given} makes none: add onnx, or leave it out"
        )
    if readers:
        raise VerificationError(f"--readers {','.join(readers)} read ONNX files, but --export {given} makes none: add onnx")


def _of_latency(device: Device, onnx: OnnxOptions, through: FileResults) -> list[str]:
    """Notes on files without a latency, or with a latency other than the one the search used."""
    if device.imported:
        return []
    notes, here = [], [FORMATS[row.format] for row in through.rows]
    own = [format for format in here if format.runtime.name == device.runtime]
    if in_another := [format.files[0] for format in here if not format.takes_batch(device.batch, onnx)]:
        notes.append(
            f"Latency was measured with {device.batch} images per call, as in --device. Not timed, because their batch size "
            f"differs: {', '.join(in_another)}."
        )
    if through.timing is None and own:
        notes.append("The latency at the top is of the same network, measured before the export.")
    elif through.timing is None:
        notes.append(
            f"No file in this folder runs in {device.runtime}: the latency at the top is of the network, measured there before "
            "the export."
        )
    elif device.runtime == "openvino" and not own and onnx.opset < HARD_SWISH:
        notes.append(
            f"The search used latencies of opset {HARD_SWISH}, in which OpenVINO runs h-swish faster than in opset {onnx.opset} "
            f"of model.onnx: --opset {HARD_SWISH} or --export openvino makes such a file."
        )
    return notes
