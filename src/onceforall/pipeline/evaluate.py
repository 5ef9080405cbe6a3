"""`ofa evaluate`: accuracy of any sub-network of a run: extracted, recalibrated on training images, evaluated."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..arch import Arch
from ..calibrate import Accuracy, Calibrated, Statistics, evaluate_each, evaluate_network, recalibrate
from ..common.advice import ofa
from ..common.arguments import takes
from ..common.files import append_line, read_text, recording
from ..common.progress import QUIET, Progress
from ..data import Images, Splits
from ..data.labels import Labels
from ..errors import ArchError
from ..options.measuring import EvaluateOptions
from ..resolutions import Resolution
from ..scores import Confusion
from ..space import Space
from ..supernets.supernet import Supernet
from ..tasks.label_scores import LabelAnswers, LabelScores
from ..train import World
from .run_directory.run import CALIBRATION_IMAGES, Run
from .training.compute import choose_compute

MOST_RANDOM = 10_000
MOST_NUMBERS = 50_000_000  # in all confusion matrices together
MOST_DRAWN = 2  # more networks than this get no interval of mAP, which takes seconds each


@dataclass(frozen=True)
class Evaluation:
    """One sub-network's accuracy on a split, with its confusion matrix and which images are classified correctly, bool (n,).

    With very many networks and classes, only the accuracy is kept. For multi-label images, `labels` has the scores of each label,
    and `answers` the raw outputs where two networks are compared. `names` are the images' names, `wanted` and `predicted` their
    classes, also only for a comparison.
    """

    name: str
    arch: Arch
    accuracy: Accuracy
    confusion: Confusion | None = field(default=None, repr=False)
    right: NDArray[np.bool_] | None = field(default=None, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    labels: LabelScores | None = field(default=None, repr=False)
    answers: LabelAnswers | None = field(default=None, repr=False)
    wanted: NDArray[np.int64] | None = field(default=None, repr=False)
    predicted: NDArray[np.int64] | None = field(default=None, repr=False)


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions, *, progress: Progress = QUIET) -> list[Evaluation]:
    """Evaluate sub-networks of a trained run; the results are also appended to evaluations.jsonl.

    Under torchrun, the processes divide the sub-networks among them.

    Args:
        progress: its `result` gets each result.
    """
    run = Run.open(options.folder, options.data)
    run.require_images()
    archs = choose_archs(run.space, str(network_place(run, options.arch)), options.seed)
    if options.against is not None:
        archs += choose_archs(run.space, str(network_place(run, options.against)), options.seed, "--against")
        if len(archs) != 2:
            raise ArchError(f"--arch {options.arch} --against {options.against}: only two networks can be compared: give one each")
    compute = choose_compute(options.device)
    supernet = run.supernet().to(compute.device)
    splits = run.splits(progress)
    with World.joined(compute.device.type) as world:
        if options.split != "test":
            images = splits.held_out
        else:  # of several processes, only one records that the images were opened
            purpose = ofa("evaluate", "--arch", options.arch)
            images = run.open_test(splits, purpose) if world.leads else splits.open_test(purpose)
        own = []
        for name, chosen in archs[world.rank :: world.size]:
            network = calibrated(run, supernet, chosen, splits)
            accuracy, answers, right, (wanted, predicted) = _judged(run, network, images, chosen.resolution)
            few = len(archs) * run.num_classes**2 <= MOST_NUMBERS
            names = tuple(images.names) if options.against is not None else ()
            if isinstance(answers, LabelAnswers):
                held_out = answers if options.split != "test" else _judged(run, network, splits.held_out, chosen.resolution)[1]
                scores = answers.scores(held_out.thresholds(), interval=len(archs) <= MOST_DRAWN)
                compared = answers if options.against is not None else None
                own.append(Evaluation(name, chosen, accuracy, None, right, names, scores, compared))
            else:
                found = Evaluation(name, chosen, accuracy, *((answers, right, names) if few else ()))
                own.append(found if options.against is None else replace(found, wanted=wanted, predicted=predicted))
            record = {"name": name, "split": options.split or "held-out", "arch": chosen.to_json(), **asdict(own[-1].accuracy)}
            with recording("this evaluation is"):
                append_line(run.folder / "evaluations.jsonl", record)
            progress.result(own[-1])
        parts = world.gather(own)
    return [parts[i % world.size][i // world.size] for i in range(len(archs))]


def _judged(
    run: Run, network: Calibrated, images: Images, resolution: Resolution
) -> tuple[Accuracy, Any, NDArray[np.bool_], tuple[NDArray[Any], NDArray[np.int64]]]:
    """Accuracy, the task's answers, which images are right, and their labels and likeliest classes."""
    found, classes = list[Any](), list[tuple[Labels, NDArray[np.int64]]]()

    def keep(labels: Labels, probabilities: Labels) -> None:
        found.append(run.task.answers(labels, probabilities))
        classes.append((labels, probabilities.argmax(1)))

    accuracy, right = judge_network(run, network, images, resolution, keep)
    wanted, predicted = map(np.concatenate, zip(*classes, strict=True))
    return accuracy, reduce(add, found), right, (wanted, predicted)


def judge_network(
    run: Run, network: Calibrated, images: Images, resolution: Resolution, on_answers: Callable[[Labels, Labels], object]
) -> tuple[Accuracy, NDArray[np.bool_]]:
    """Accuracy, and which images are right. `on_answers` is called with labels and probabilities, (n, classes), of each batch."""

    def keep(logits: Tensor, labels: Tensor) -> None:
        on_answers(labels.cpu().numpy(), run.task.probabilities(logits.double()).cpu().numpy())

    batches = run.eval_batches(images, resolution)
    accuracy, right = evaluate_each(network, batches, on_logits=keep, counted=run.task.tally())
    return accuracy, right.numpy()


def held_out_thresholds(run: Run, network: Calibrated, splits: Splits, resolution: Resolution) -> tuple[float, ...]:
    """The best thresholds of the labels' probabilities on the held-out images; () where an image has one class."""
    if not run.task.several:
        return ()
    thresholds: list[float] = _judged(run, network, splits.held_out, resolution)[1].thresholds().tolist()
    return tuple(thresholds)


def network_place(run: Run, text: str) -> Path:
    """The network's folder in the run's specialised/ if `text` is its name; else `text` as a path."""
    if not text.strip():
        raise ArchError(f"--arch {text!r}: give largest, smallest, random:N, a name in specialised/, or a path")
    own = run.folder / "specialised" / text
    return own if own.is_dir() else Path(text)


def choose_archs(space: Space, text: str, seed: int, option: str = "--arch") -> list[tuple[str, Arch]]:
    """The architectures that a command-line argument stands for, each with a name.

    Raises:
        ArchError: the text has no known form, or the architecture is not in the space.
        FileError: the file cannot be read.
    """
    if text == "largest":
        return [("largest", space.largest())]
    if text == "smallest":
        return [("smallest", space.smallest())]
    if text.startswith("random:"):
        number = text.removeprefix("random:")
        if not number.isdecimal() or int(number) < 1:
            raise ArchError(f"{option} {text}: after random: a number of at least 1 is needed, for instance random:16")
        if len(number) > 9 or int(number) > MOST_RANDOM:
            raise ArchError(f"{option} {text}: at most {MOST_RANDOM:,} at once; ofa accuracy measure is for many")
        rng = np.random.default_rng([seed, 3])
        return [(f"random {i + 1}", space.sample(rng)) for i in range(int(number))]
    path = Path(text)
    if not path.exists() or (path.is_dir() and not (path / "arch.json").exists()):
        what = "no arch.json in that folder" if path.is_dir() else "no such file"
        raise ArchError(f"{option} {text}: {what}; use largest, smallest, random:N, a name in specialised/, or a path")
    try:
        arch = Arch.from_json(read_text(path / "arch.json" if path.is_dir() else path))
        space.check(arch)
    except ArchError as error:
        raise ArchError(f"{path}: {error}") from None
    return [(path.name, arch)]


def calibrated(
    run: Run, supernet: Supernet, arch: Arch, splits: Splits, *, images: int = CALIBRATION_IMAGES, begun: Statistics | None = None
) -> Calibrated:
    """Extract a sub-network and measure its BatchNorm statistics on training images at its resolution.

    `begun`, statistics of the first images, are continued where that gives the same batches as starting over.
    """
    if begun is not None and begun.images < len(splits.train) < images:
        begun = None
    batches = run.calibration_batches(splits, arch.resolution, images, after=0 if begun is None else begun.images)
    return recalibrate(supernet.extract(arch), batches, begun=begun)


def accuracy_of(
    run: Run, supernet: Supernet, arch: Arch, splits: Splits, images: Images, *, calibration: int = CALIBRATION_IMAGES
) -> Accuracy:
    """Accuracy of a sub-network on `images`, recalibrated on `calibration` training images."""
    network = calibrated(run, supernet, arch, splits, images=calibration)
    return evaluate_network(network, run.eval_batches(images, arch.resolution), run.task.tally())
