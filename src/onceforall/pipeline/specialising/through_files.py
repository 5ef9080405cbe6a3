"""Measure accuracy and latency of a network through its exported files."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...backends.format import in_batches
from ...calibrate import Accuracy, tally
from ...common.progress import QUIET, Progress
from ...data import Images
from ...errors import VerificationError
from ...export import FORMATS, Exporting, FileRow, OnnxOptions, Program, program_of, run_programs
from ...latency import Timing, load_onnx, measure_functions, measure_onnx
from ...scores import Confusion
from ...tasks.label_scores import LabelAnswers, LabelScores
from ...tasks.task import MULTICLASS, Task
from ..run_directory.run import Run
from ..search import Searcher
from .choose import CONFIRMATIONS, TOLERANCE
from .mistakes import Mistake, as_bits, worst_mistakes

SLACK = 0.001  # of all images, for near ties between classes decided by rounding; at least one image
SLACK_MAP = 0.01  # of mean average precision, in which one image of a rare label counts a lot
ROUNDS, MOST_ROUNDS = 20, 160  # for the files' latencies
PATIENCE_S = 3.0  # for narrow intervals; `ofa specialise` should take half a minute in all
IN_A_ROW = 8  # batches through one file: with alternating runtimes, threads spin while waiting for each other
OWN = "pytorch"  # always exported, and verified to be the network


@dataclass(frozen=True)
class FileResults:
    """Measurements through the files of one network.

    Args:
        rows: one for each format that is kept.
        left_out: formats that are left out because int8 loses too much, with one line on why.
        timing: latency of the file that the device runs, as in its row; None if there is none.
        confusion: confusion matrix on the test images.
        mistakes: the most confident mistakes on the test images.
        wrong: all misclassified test images, as `mistakes.as_bits`; "" for multi-label networks.
        labels: multi-label only: scores of the labels on the test images.
        tests: test accuracies by format.
    """

    test: Accuracy
    rows: Sequence[FileRow]
    left_out: Mapping[str, str]
    timing: Timing | None
    confusion: Confusion | None = None
    mistakes: Sequence[Mistake] = ()
    wrong: str = ""
    labels: LabelScores | None = None
    tests: Mapping[str, Accuracy] = field(default_factory=dict)


def measure_files(
    made: Exporting, searcher: Searcher, test: Images, *, max_drop: float, limit_ms: float | None, progress: Progress = QUIET
) -> FileResults:
    """Measure test accuracy through each file and, if it can run where the device is, its latency.

    Test accuracies come from the card's programs run on the original files in a separate Python process: see `run_programs`.

    int8 files are accepted or rejected on the held-out images, so that nothing is chosen on the test images. Files that do not
    take the device's batch size are not timed; all latencies are at the level of the device's profile, see `measure_networks`.

    Args:
        made: the verified files, including "pytorch", with which the others are compared.
        searcher: the searcher that found the network; its device's threads and batch size apply to the latency of every file.
        test: images for the accuracies.
        max_drop: largest allowed loss of int8 in points of top-1 or mAP.
        limit_ms: the latency limit the network was chosen for. If its file exceeds it by more than the tolerance, all files are
            timed again, as in the choice of networks: disturbances only make a measurement longer.

    Raises:
        VerificationError: a file's accuracy is not the network's, or its program fails.
    """
    run, onnx = searcher.run, made.job.onnx
    int8 = [name for name in made.proofs if FORMATS[name].int8]
    before_and_after = _accuracies(made, run, [OWN, *int8], searcher.splits.held_out) if int8 else {}
    drops = {name: too_large_drop(before_and_after[OWN], before_and_after[name], max_drop) for name in int8}
    left_out = {name: why for name, why in drops.items() if why is not None}
    formats = [name for name in made.proofs if name not in left_out]
    own = _accuracies(made, run, [OWN], test)[OWN]
    progress.say(f"measuring test accuracy with the card's programs in a separate process, {len(test):,} images one by one")
    judged = by_programs(made.files, {name: _program(name, onnx) for name in formats}, test, run.task, onnx)
    accuracies = {name: accuracy for name, (accuracy, _) in judged.items()}
    for name, found in accuracies.items():
        if not FORMATS[name].int8:
            require_same(FORMATS[name].files[0], own, found)
    timed = [name for name in formats if FORMATS[name].takes_batch(searcher.device.batch, onnx)]
    timings, timing = _timings(made, searcher, timed)
    for _ in range(CONFIRMATIONS - 1):
        if timing is None or limit_ms is None or timing.ms <= limit_ms * (1 + TOLERANCE):
            break
        again, timing_again = _timings(made, searcher, timed)
        if timing_again is not None and timing_again.ms < timing.ms:
            timings, timing = again, timing_again
    rows = []
    for name in formats:
        latency = (timings[name].ms, timings[name].low, timings[name].high) if name in timings else None
        held = (before_and_after[OWN].told[1], before_and_after[name].told[1]) if name in int8 else None
        found = accuracies[name]
        rows.append(
            FileRow(
                name,
                found.top1,
                latency,
                held,
                found.top5,
                found.map,
                found.score(run.metric) if run.metric not in ("top1", "map") else None,
            )
        )
    probabilities = judged[OWN][1]
    answers = run.task.answers(test.labels, probabilities)
    if isinstance(answers, LabelAnswers):
        labels = answers.scores(np.array(made.config.thresholds))
        return FileResults(accuracies[OWN], rows, left_out, timing, labels=labels, tests=accuracies)
    mistakes, wrong = worst_mistakes(test, probabilities), as_bits(probabilities.argmax(1) != test.labels)
    return FileResults(accuracies[OWN], rows, left_out, timing, answers, mistakes, wrong, tests=accuracies)


def _accuracies(made: Exporting, run: Run, formats: Sequence[str], images: Images) -> dict[str, Accuracy]:
    """Accuracy through each file; every batch is made once."""
    threads, onnx = torch.get_num_threads(), made.job.onnx
    loaded = {name: (FORMATS[name].load_for_many or FORMATS[name].load)(made.files, threads) for name in formats}
    loaded = {name: in_batches(call, onnx.batch) if FORMATS[name].from_onnx else call for name, call in loaded.items()}
    tallies = {name: run.task.tally() for name in formats}
    batches = run.eval_batches(images, made.arch.resolution)
    while some := list(islice(batches, IN_A_ROW)):
        for name, through in loaded.items():
            for x, labels in some:
                tallies[name].add(_logits(name, through(x), run.task, onnx), labels)
    return {name: tally.accuracy() for name, tally in tallies.items()}


def _program(name: str, onnx: OnnxOptions) -> Program:
    """The card's program; for a fixed batch size, it takes a batch of different photographs instead of copies of one."""
    format = FORMATS[name]
    free = replace(onnx, batch=None)
    return program_of(format.usage_with(free), (onnx.batch or 1) if format.from_onnx else 1)


def by_programs(
    folder: Path,
    programs: Mapping[str, Program],
    images: Images,
    task: Task = MULTICLASS,
    onnx: OnnxOptions = OnnxOptions(),  # noqa: B008, frozen
) -> dict[str, tuple[Accuracy, NDArray[np.float64]]]:
    """Accuracy of each program on the images' original files, and its probabilities (n, classes).

    If files of `onnx` return probabilities, programs must be keyed by format.

    Raises:
        VerificationError: a program fails.
        FileError: there is no disk space for images that are not files.
    """
    with tempfile.TemporaryDirectory() as temporary:
        found = run_programs(folder, programs, images.files(Path(temporary)))
    labels, judged = torch.from_numpy(images.labels), {}
    for name, outputs in found.items():
        logits = _logits(name, torch.from_numpy(outputs), task, onnx)
        accuracy = tally([(logits, labels)], task.tally())
        judged[name] = accuracy, task.probabilities(logits.double()).numpy()
    return judged


def _logits(format: str, outputs: torch.Tensor, task: Task, onnx: OnnxOptions) -> torch.Tensor:
    """Logits from a file's outputs, which may be probabilities."""
    return task.logits(outputs) if onnx.softmax and FORMATS[format].from_onnx else outputs


def _timings(made: Exporting, searcher: Searcher, formats: Sequence[str]) -> tuple[dict[str, Timing], Timing | None]:
    """Latency of each file, timed in turns with the device's threads and batch size; and of the file that the device runs, if any.

    On another machine, only that file is timed.
    """
    folder, device, shape, anchor = made.files, searcher.device, made.job.plan.input_shape, searcher.anchor
    own = next((name for name in formats if FORMATS[name].runtime.name == device.runtime), None)
    model = folder / FORMATS["onnx"].files[0]
    in_openvino = own is None and device.runtime == "openvino" and "onnx" in formats
    if device.host is not None:
        file = model if in_openvino else folder / FORMATS[own].files[0] if own else folder
        if file.suffix != model.suffix:  # imported times, or a runtime that cannot be measured there
            return {}, None
        timing = measure_onnx(file.read_bytes(), shape, device, anchor=anchor)
        return {} if own is None else {own: timing}, timing
    if not device.on_processor:
        return {}, None
    images = np.random.default_rng(0).standard_normal((device.batch, *shape), np.float32)
    functions: dict[str, Callable[[], object]] = {name: FORMATS[name].ready(folder, device.threads, images) for name in formats}
    if in_openvino:  # the device's own runtime reads this file too
        own = device.runtime
        functions[own] = load_onnx(model.read_bytes(), shape, device).bind(images)
    with torch_threads(device.threads):
        found = measure_functions(
            list(functions.values()),
            device,
            rounds=ROUNDS,
            max_rounds=MOST_ROUNDS,
            limit=math.inf,
            patience_s=PATIENCE_S,
            anchor=anchor,
        )
    by_name = dict(zip(functions, found, strict=True))
    return {name: by_name[name] for name in formats}, None if own is None else by_name[own]


def require_enough_held_out(formats: Sequence[str], held_out: int, max_drop: float) -> None:
    """Check that there are enough held-out images to decide whether int8 loses at most `max_drop` points of top-1.

    No check is needed if it may lose none, or for mean average precision, which has finer steps than one image.

    Raises:
        VerificationError: a single image is more than `max_drop` points.
    """
    int8 = [name for name in formats if FORMATS[name].int8]
    one = 100 / held_out  # points
    if int8 and 0 < max_drop < one - 1e-9:
        enough = math.ceil(10 * one) / 10
        raise VerificationError(
            f"one of the {held_out:,} held-out images is {one:.2g} points of top-1, so they cannot show whether {int8[0]} loses at "
            f"most {max_drop:g}: give --max-drop {enough:g} or more, or 0 for no image lost, or leave it out"
        )


def too_large_drop(before: Accuracy, after: Accuracy, max_drop: float) -> str | None:
    """Why a file is left out; None if quantization loses at most `max_drop` points of top-1 or mAP."""
    (metric, own), (_, found) = before.told, after.told
    drop = 100 * (own - found)
    if drop <= max_drop + 1e-9:
        return None
    return (
        f"int8 loses {drop:.1f} points of {metric} on {before.images:,} held-out images "
        f"({100 * own:.1f} to {100 * found:.1f} %), more than the {max_drop:g} that --max-drop allows"
    )


def require_same(what: str, own: Accuracy, found: Accuracy, *, through: str = "file") -> None:
    """Check that test top-1 and loss through a file or bundle are the network's own, up to `SLACK`.

    The loss reveals different pixels even where a poor network's top-1 does not change.

    Raises:
        VerificationError: they differ.
    """
    if own.map is not None and found.map is not None and abs(own.map - found.map) > SLACK_MAP:
        raise VerificationError(
            f"{what}: test mAP through the {through} is {100 * found.map:.2f} %, the network's is {100 * own.map:.2f} %: it does "
            "not compute what the network does"
        )
    images = round(abs(own.top1 - found.top1) * own.images)
    if images > max(1, SLACK * own.images):
        raise VerificationError(
            f"{what}: test top-1 through the {through} is {100 * found.top1:.2f} %, the network's is "
            f"{100 * own.top1:.2f} %, which is {images} of {own.images:,} images: it does not compute what the network does"
        )
    if not abs(own.loss - found.loss) <= SLACK * max(1.0, own.loss):
        raise VerificationError(
            f"{what}: mean cross-entropy on the test images through the {through} is {found.loss:.4f}, the network's is "
            f"{own.loss:.4f}: it does not compute what the network does"
        )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set torch's number of threads, which is one per process, in this context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
