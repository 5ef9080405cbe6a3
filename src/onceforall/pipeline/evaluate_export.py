"""`ofa evaluate EXPORT DATA`: evaluate an exported folder on any labeled images through one of its files, without the run."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..common.processors import processors
from ..common.progress import QUIET, Progress
from ..common.readable import plural
from ..data import open_source
from ..data.cache import in_threads, pixel_digest
from ..data.formats.scan import left_out_line, listed, same_name
from ..data.labels import Labels
from ..data.originals import Load, Part, Read, Source, Taken, small
from ..data.reading import AS_IT_IS, Reading
from ..errors import DataError, TaskError
from ..export.config import InputSteps
from ..export.trained_on import BYTES, NOT_KNOWN, AmongTrained, TrainedOn, read_trained_on
from ..options.measuring import PARTS
from ..preprocess import FOUND, load_for, prepare_loaded
from ..scores import Confusion
from ..tasks.label_scores import LabelAnswers, LabelScores
from ..tasks.task import task_of
from .classify import opened_export, unlike_training

_How = tuple[int, Read]  # size and way of reading the images whose digests are compared with those of training images


@dataclass(frozen=True, eq=False)
class ExportScores:
    """Scores of an exported network on labeled images.

    Args:
        export: the folder.
        format: format of the file that was evaluated.
        part: which images of the data: "train", "test", "held-out" or "all".
        confusion: confusion matrix; None for a multi-label network.
        right: which images are classified correctly, (n,), in the order of `names`.
        wanted: their labels, numbered like the classes of the first network; (n, classes) for a multi-label network.
        predicted: their likeliest classes, (n,), numbered in the same way; those that the first does not know follow.
        names: names of the images.
        unreadable: images that cannot be read, and why.
        labels: multi-label only: scores of each label at the folder's thresholds.
        answers: multi-label only: the raw outputs, to compare networks.
        trained_on: how many of the images the network was trained on, as far as known.
    """

    export: Path
    format: str
    classes: tuple[str, ...]
    part: str
    confusion: Confusion | None
    right: NDArray[np.bool_]
    wanted: Labels
    predicted: NDArray[np.int64]
    names: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    labels: LabelScores | None = None
    answers: LabelAnswers | None = None
    trained_on: AmongTrained = NOT_KNOWN

    @property
    def images(self) -> int:
        """Number of images read."""
        return len(self.names)


def evaluate_exports(
    exports: Sequence[Path],
    data: str,
    *,
    part: str | None = None,
    format: str | None = None,
    network: str | None = None,
    reading: Reading = AS_IT_IS,
    progress: Progress = QUIET,
) -> list[ExportScores]:
    """Evaluate exported networks on the same labeled images, prepared by each network's own preprocessing.

    Args:
        exports: folders that `specialise` or `bundle` made.
        data: anything that `onceforall.data.open_source` takes. Classes are matched with the networks' by name.
        part: "train", "test", "held-out" or "all"; None for the test images if the data have some, else all.
        format: format of the file to run; see `classify`.
        network: name of a bundle's network.
        reading: how to read the data.

    Raises:
        DataError: there is no such part, a network does not know a class, no image can be read, or an image can be read for only
            one of the networks, for example because the other allows fewer pixels.
        OnceForAllError: as for `classify`.
    """
    opened = [opened_export(Path(export), format, network) for export in exports]
    classes = {name for _, config, _ in opened for name in config.classes}
    asked = _with_task(reading, exports, [config.task for _, config, _ in opened])
    try:
        source = open_source(data, asked, progress.say, classes)
    except TaskError as error:
        if reading.task is not None:
            raise
        raise TaskError(f"{exports[0]} was trained with --task {opened[0][1].task}, and {error}") from None
    left_out = left_out_line(source.left_out)
    for remark in (*source.remarks, *([f"left out: {left_out}"] if left_out else [])):
        progress.say(remark)
    name, images = _part(source, part)
    found, digests = [], dict[_How, list[bytes]]()
    for export, (chosen, config, run) in zip(exports, opened, strict=True):
        labels = _labels(source, images, config.classes, export)
        seen = read_trained_on(Path(export))
        kept, probabilities, unreadable, known, unlike = _answers(images, config.preprocessing, run, seen, digests)
        for line in unlike:
            progress.say(f"{export}: {line}")
        if not kept:
            raise DataError(f"{data}: none of {plural(len(images), 'image')} can be read: {images.names[0]}: {unreadable[0][1]}")
        names, about = tuple(images.names[i] for i in kept), (Path(export), chosen, tuple(config.classes), name)
        number, own, likeliest = _numbers(config.classes, opened[0][1].classes), labels[kept], probabilities.argmax(1)
        if config.thresholds:
            if sorted(number) != list(range(len(opened[0][1].classes))):
                raise DataError(f"{exports[0]} and {export} have different labels, so they cannot be compared: evaluate each alone")
            scores = LabelAnswers((own,), (probabilities.astype(np.float32),)).scores(np.array(config.thresholds))
            right = np.take_along_axis(own, likeliest[:, None], 1)[:, 0] > 0
            place = np.argsort(number)
            answers = LabelAnswers((own[:, place],), (probabilities[:, place].astype(np.float32),))
            compared = right, own[:, place], number[likeliest]
            found.append(ExportScores(*about, None, *compared, names, unreadable, scores, answers, known))
        else:
            confusion, right = Confusion.of_probabilities(own, probabilities)
            compared = right, number[own], number[likeliest]
            found.append(ExportScores(*about, confusion, *compared, names, unreadable, trained_on=known))
    if len({scores.names for scores in found}) > 1:
        raise DataError(
            f"{data}: {exports[0]} and {exports[1]} do not read the same images of it: leave out those that only one can read"
        )
    return found


def _with_task(reading: Reading, exports: Sequence[Path], tasks: Sequence[str]) -> Reading:
    """The reading, with the networks' task; a `DataError` if the networks have different tasks, or not the requested one."""
    task = tasks[0]
    if len(set(tasks)) > 1:
        raise DataError(f"{exports[0]} was trained with --task {task}, {exports[1]} with {tasks[1]}: they cannot be compared")
    if reading.task not in (None, task):
        raise DataError(f"{exports[0]} was trained with --task {task}, not {reading.task}: leave --task out")
    return replace(reading, task=task) if task_of(task).several else reading


def _answers(
    images: Part,
    preprocessing: InputSteps,
    run: Callable[[Tensor], Tensor],
    seen: TrainedOn | None,
    digests: dict[_How, list[bytes]],
) -> tuple[list[int], NDArray[np.float64], tuple[tuple[str, str], ...], AmongTrained, list[str]]:
    """Indices of the readable images, their probabilities (n, classes), unreadable ones with the reason, how many were seen, and
    how the images differ from the training images.

    `digests` caches the images' digests, as in `TrainedOn.known`, for each `_How`; b"" where an image cannot be read that way.
    """
    steps, kept, rows, unreadable = preprocessing.to_json(), list[int](), list[NDArray[np.float64]](), list[tuple[str, str]]()
    how: _How | None = None
    if seen is not None:
        how = seen.size, Read(seen.max_pixels, len(preprocessing.mean), preprocessing.range, seen.long)
    new = how is not None and how not in digests

    def digest(load: Load) -> bytes:
        try:
            return b"" if how is None else pixel_digest(small(load, *how))[:BYTES]
        except DataError:
            return b""

    def prepared(load: Load) -> tuple[NDArray[np.float32], bytes, dict[str, Any]] | str:
        try:
            original = load.taken()
            whole, own = load_for(_file(original), steps), Load(lambda: original, load.name)
            return prepare_loaded(whole, steps), digest(own) if new else b"", whole.info[FOUND]
        except ValueError as error:
            return str(error)

    own, about = list[bytes](), list[dict[str, Any]]()
    for i, found in enumerate(in_threads(images, np.arange(len(images)), prepared, processors())):
        own.append(b"" if isinstance(found, str) else found[1])
        if isinstance(found, str):
            unreadable.append((images.names[i], found))
        else:
            rows.append(run(torch.from_numpy(found[0]))[0].double().numpy())
            about.append(found[2])
            kept.append(i)
    known = NOT_KNOWN
    if seen is not None and how is not None:
        hashes, taken = seen.known(), digests.setdefault(how, own)
        known = seen.among(sum(taken[i] in hashes for i in kept))
    return kept, np.array(rows), tuple(unreadable), known, unlike_training(about, preprocessing)


def _part(source: Source, name: str | None) -> tuple[str, Part]:
    """The name and images of the requested part."""
    there = {"train": source.train, "test": source.test, "held-out": source.held_out}
    parts = {key: part for key, part in there.items() if part is not None}
    if name is None:
        name = "test" if "test" in parts else "all"
    if name not in PARTS:
        raise DataError(f"--split {name}: use {', '.join(PARTS)}")
    if name == "all":
        return name, _joined(list(parts.values()))
    if name not in parts:
        raise DataError(f"{source.name} has no {name} images: give --split {', '.join(parts)} or all")
    return name, parts[name]


def _joined(parts: list[Part]) -> Part:
    """Concatenate the parts."""
    starts = np.cumsum([0, *map(len, parts)])

    def read(positions: NDArray[np.int64]):  # type: ignore[no-untyped-def]
        for part, start, stop in zip(parts, starts, starts[1:], strict=False):
            yield from part.read(positions[(positions >= start) & (positions < stop)] - start)

    names = [name for part in parts for name in part.names]
    return Part(names, np.concatenate([part.labels for part in parts]), "+".join(part.identity for part in parts), read)


def _labels(source: Source, images: Part, classes: Sequence[str], export: Path) -> Labels:
    """Labels in the network's numbering of classes; a `DataError` if the network does not know a class that has images."""
    own, there = (tuple(map(same_name, names)) for names in (classes, source.classes))  # a Mac writes é as two characters
    known = {name: number for number, name in enumerate(own)}
    several = images.labels.ndim == 2
    used = np.flatnonzero(images.labels.any(0)) if several else np.unique(images.labels)
    if used.min(initial=0) < 0 or used.max(initial=0) >= len(source.classes):
        raise DataError(f"{source.name}: some of its images have no label: leave them out")
    unknown = [source.classes[i] for i in used if there[i] not in known]
    if unknown:
        raise DataError(
            f"{source.name} has images of {listed(unknown, 6)}, which {export} does not know (its classes: {listed(classes, 6)}): "
            "choose and rename classes with --classes"
        )
    alike = there == own
    twice = {name for names in (there, own) for name, n in Counter(names).items() if n > 1} & {there[i] for i in used}
    if twice and not alike:
        raise DataError(
            f"{source.name}: several classes are called {min(twice)}, there or in {export}, so they cannot be matched by "
            "name: give each its own name"
        )
    number_of = np.array([i if alike else known.get(name, -1) for i, name in enumerate(there)], np.int64)
    if several:
        matrix: Labels = np.zeros((len(images), len(classes)), np.float32)
        matrix[:, number_of[used]] = images.labels[:, used]
        return matrix
    return number_of[images.labels]


def _numbers(classes: Sequence[str], first: Sequence[str]) -> NDArray[np.int64]:
    """The number of each class among the first network's, by name; those of classes that it does not know follow."""
    if list(classes) == list(first):
        return np.arange(len(classes))
    known = {same_name(name): number for number, name in enumerate(first)}
    return np.array([known.get(same_name(name), len(first) + i) for i, name in enumerate(classes)])


def _file(original: Taken) -> Path | bytes:
    """The image in a form that `prepare` reads: one that is already decoded, for example by torchvision, becomes a PNG."""
    if isinstance(original, Image.Image):
        stream = io.BytesIO()
        original.save(stream, "PNG", compress_level=1)
        return stream.getvalue()
    return original
