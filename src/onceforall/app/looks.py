"""A network's answers on the held-out images, in RUN/explorer/looks: confusion matrix, photographs of each mistake, and where two
networks disagree. A job of the explorer measures them; the page then requests parts of the result.

Photographs are requested by their number among the held-out images, and no text of a request becomes a path.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arch import Arch
from ..calibrate import as_it_was
from ..common.files import make_folder
from ..common.progress import QUIET, Progress
from ..common.readable import percent
from ..common.records import read_record
from ..data import Splits
from ..errors import DataError, FileError, OnceForAllError
from ..export import load
from ..pipeline import Run
from ..pipeline.evaluate import calibrated, judge_network
from ..pipeline.run_directory.newest import newest_weights, open_newest
from ..pipeline.specialising.mistakes import surest_mistakes, thumbnails_of
from ..pipeline.specialising.record import Specialised
from ..report.confusion import MOST_CLASSES, confusion_picture, numbers_of
from ..scores import CLASS_HEADER, METRICS, Confusion, Difference
from ..tasks.label_scores import LABEL_HEADER, LabelAnswers, LabelDifference, LabelScores
from ..train.checkpoint import load_tensors, save_tensors

TENSORS = ("labels", "said", "sure")  # in a look's file
SHOWN = 48  # photographs at once
PAIRS = 12  # mistakes that are listed
AGAIN_S = 20.0  # before trying again to open images that could not be opened
Photo = dict[str, Any]


@dataclass(frozen=True, eq=False)
class NetworkLook:
    """A network's answers on the held-out images.

    Args:
        id: id of the job that measured it.
        facts: name, arch, weights and fingerprint (hashes of what it was measured with), classes, names of the images, and whether
            the weights are the run's final ones; for a checkpoint, the name has its step. An exported network also has its name in
            specialised/, and for weights the time when they were written in place of their hash.
        labels: (n,), or multi-label (n, classes).
        said: (n,) predicted class; multi-label (n, classes) probability of each label.
        sure: (n,) confidence; multi-label (classes,) thresholds.
    """

    id: str
    facts: dict[str, Any]
    labels: NDArray[Any]
    said: NDArray[Any]
    sure: NDArray[np.float32]

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @property
    def classes(self) -> list[str]:
        return list(self.facts["classes"])

    @cached_property
    def scores(self) -> Confusion | LabelScores:
        """Confusion matrix, or the labels' scores."""
        if self.several:
            return self._answers.scores(self.sure, interval=False)
        return Confusion.of(self.labels, self.said, self.sure.astype(np.float64), len(self.classes))

    @property
    def _answers(self) -> LabelAnswers:
        return LabelAnswers((self.labels,), (self.said,))

    def score_text(self, metric: str) -> str:
        """The network's value of the run's metric, as text."""
        scores = self.scores
        return f"{METRICS[metric]} {percent(scores.map if isinstance(scores, LabelScores) else scores.score(metric))}"

    def shown(self, metric: str) -> dict[str, Any]:
        """Everything but the photographs, as JSON values."""
        scores, classes, result = self.scores, self.classes, {"id": self.id, "name": self.facts["name"], "images": len(self.labels)}
        if isinstance(scores, LabelScores):
            note = (
                "There is no confusion matrix: an image may have several labels, each predicted independently. Recall, precision "
                "and F1 are at thresholds that were chosen on these images."
            )
            numbers, rows, picture = [("mAP", percent(scores.map))], scores.rows(classes), ""
            below = self.said < self.sure
            wrong = [((self.labels == 0) & ~below).sum(0), ((self.labels > 0) & below).sum(0)]
            pairs = [
                (i, kind, f"{classes[i]} {'missed' if kind else 'wrongly predicted'} ({wrong[kind][i]:,})")
                for i in range(len(classes))
                for kind in (0, 1)
                if wrong[kind][i]
            ]
            pairs = sorted(pairs, key=lambda pair: -int(wrong[pair[1]][pair[0]]))[:PAIRS]
        else:
            note = "" if len(classes) <= MOST_CLASSES else f"{len(classes):,} classes are too many for a confusion matrix."
            numbers, rows = [("top-1", percent(scores.top1))], scores.rows(classes)
            filled = {(i, j): f"cell-{i}-{j}" for i, j in np.argwhere(scores.counts).tolist()}
            picture = "" if note else str(confusion_picture(scores, classes, filled))
            pairs = [(i, j, f"{classes[i]} taken for {classes[j]} ({n:,})") for i, j, n in scores.mistakes(PAIRS)]
        own = METRICS[metric]
        numbers = sorted([*numbers, *numbers_of(scores, metric)], key=lambda pair: pair[0] != own)
        table = {"header": list(LABEL_HEADER if self.several else CLASS_HEADER), "rows": rows}
        return {**result, "numbers": numbers, "note": note, "picture": picture, "pairs": pairs, "worst": self.worst(), **table}

    def worst(self) -> list[Photo]:
        """The most confident mistakes."""
        classes = self.classes
        if not self.several:
            mistakes = surest_mistakes(self.labels, self.said, self.sure)
            named = {i: f"{classes[self.labels[i]]} taken for {classes[self.said[i]]}" for i in mistakes}
            return [self._photo(i, f"{text}, {percent(self.sure[i])} sure") for i, text in named.items()]

        def words(i: int) -> str:
            predicted = [f"{classes[j]} {percent(self.said[i, j])}" for j in np.flatnonzero(self.said[i] >= self.sure)]
            return f"predicted: {', '.join(predicted) or 'no label'}; has {self._labels(i)}"

        opposite = np.where(self.labels > 0, 1 - self.said, self.said)  # confidence in the wrong answer
        wrong = np.where((self.labels > 0) == (self.said >= self.sure), 0.0, opposite).max(1)
        return [self._photo(i, words(i)) for i in _first(wrong, wrong > 0)]

    def cell(self, first: int, second: int) -> dict[str, Any]:
        """The images of one cell: (true, predicted) class; or multi-label: (label, 0 wrongly predicted or 1 missed)."""
        classes = self.classes
        if not (0 <= first < len(classes) and 0 <= second < (2 if self.several else len(classes))):
            raise DataError(f"no cell {first}, {second}: there are {len(classes)} classes")
        if self.several:
            present, probability = self.labels[:, first] > 0, self.said[:, first]
            predicted = probability >= self.sure[first]
            found = present & ~predicted if second else ~present & predicted
            title = f"{classes[first]} {'missed' if second else 'wrongly predicted'}"
            sure = 1 - probability if second else probability
            words: Callable[[int], str] = lambda i: f"{classes[first]}: {percent(probability[i])}; has {self._labels(i)}"  # noqa: E731
        else:
            found, sure = (self.labels == first) & (self.said == second), self.sure
            title = f"{classes[first]} taken for {classes[second]}" if first != second else f"{classes[first]}, predicted correctly"
            words = lambda i: f"{percent(sure[i])} sure"  # noqa: E731
        return self._group(title, found, sure, words)

    def against(self, other: "NetworkLook", metric: str = "top1") -> dict[str, Any]:
        """Where two networks disagree, and whether one is better by more than chance, by the metric too."""
        names = (self.facts["name"], other.facts["name"])
        if names[0] == names[1]:
            names = (f"{names[0]} (1)", f"{names[1]} (2)")
        if self.several:
            unlike = (self.said >= self.sure) != (other.said >= other.sure)
            apart = np.where(unlike, np.abs(self.said - other.said), 0.0)
            label = apart.argmax(1)

            def words(i: int) -> str:
                name, both = self.classes[label[i]], (self.said[i, label[i]], other.said[i, label[i]])
                return f"{name}: {' / '.join(map(percent, both))}; has {self._labels(i)}"

            verdict = LabelDifference.of(self._answers, other._answers).told(*names)
            title = "Different labels at their thresholds, largest difference of probabilities first"
            groups = [(title, unlike.any(1), apart.max(1))]
        else:
            own, others = self.said == self.labels, other.said == self.labels

            def words(i: int) -> str:
                both = [f"{self.classes[look.said[i]]} {percent(look.sure[i])}" for look in (self, other)]
                return f"{self.classes[self.labels[i]]}: {' / '.join(both)}"

            verdict = Difference.between(metric, self.labels, self.said, other.said).told(*names)
            groups = [
                (f"Only {names[0]} is right", own & ~others, other.sure),
                (f"Only {names[1]} is right", others & ~own, self.sure),
                ("Both are wrong, differently", ~own & ~others & (self.said != other.said), np.minimum(self.sure, other.sure)),
            ]
        what = "the label in which they differ most" if self.several else "its class"
        note = f"Below each photograph: {what}, then the answers of {names[0]} / {names[1]}."
        return {"told": verdict, "note": note, "groups": [self._group(*group, words) for group in groups]}

    def _group(self, title: str, found: NDArray[np.bool_], sure: NDArray[Any], words: Callable[[int], str]) -> dict[str, Any]:
        """The most confident of the images where `found`, with `words` below each."""
        photos = [self._photo(i, words(i)) for i in _first(sure, found)]
        return {"title": title, "total": int(found.sum()), "photos": photos}

    def _photo(self, i: int, words: str) -> Photo:
        return {"image": i, "name": self.facts["names"][i], "words": words}

    def _labels(self, i: int) -> str:
        return ", ".join(self.classes[j] for j in np.flatnonzero(self.labels[i])) or "no label"


class Looks:
    """All looks of a run."""

    def __init__(self, run: Run) -> None:
        self.run, self.folder, self.lock = run, run.folder / "explorer" / "looks", threading.Lock()
        self.known: dict[str, NetworkLook] = {}
        self.splits: Splits | None = None
        self.failed: tuple[float, OnceForAllError] | None = None  # when the images could not be opened, and why

    def of_now(self) -> tuple[list[NetworkLook], int]:
        """Looks with the current images and the current weights or a checkpoint, newest first; and the number of other looks."""
        found, others = list[NetworkLook](), 0
        now, images = newest_weights(self.run), self.run.require_images().fingerprint
        if now is None:
            self.run.weights_hash()  # raises an error that says why there are none
        for path in sorted(self.folder.glob("*.safetensors"), key=changed_at, reverse=True):
            try:
                look = self.known.get(path.stem) or _read(path)
            except (OnceForAllError, KeyError):  # damaged, or just removed
                others += path.exists()
                continue
            self.known[path.stem] = look
            export, weights = look.facts.get("export"), look.facts["weights"]
            own = not look.facts["final"] or (now is not None and weights == now.digest)
            own = own if export is None else weights == written_at(self.run, export)
            of_now = own and look.facts["fingerprint"] == images
            found, others = ([*found, look], others) if of_now else (found, others + 1)
        return found, others

    def exports(self) -> dict[str, str]:
        """Architectures of the existing exported networks by name; damaged ones are reported by `ofa status`."""
        found = {}
        for path in sorted((self.run.folder / "specialised").glob("*.json")):
            with suppress(OnceForAllError):
                if written_at(self.run, path.stem) != "0":
                    found[path.stem] = read_record(path, Specialised).arch.to_json()
        return found

    def get(self, id: str) -> NetworkLook:
        """One look by id.

        Raises:
            FileError: there is no such look.
        """
        found = next((look for look in self.of_now()[0] if look.id == id), None)
        if found is None:
            raise FileError("this network was not measured, or with other weights: measure it again")
        return found

    def remove(self, id: str) -> None:
        """Delete a look; it is no error if it is already gone."""
        with self.lock:
            self.known.pop(id, None)
        for path in self.folder.glob("*.safetensors"):
            if path.stem == id:
                path.unlink(missing_ok=True)

    def photo(self, i: int) -> bytes:
        """A small JPEG of a held-out image.

        Raises:
            DataError: there is no such image, the images are gone or have changed, or it can no longer be read.
        """
        with self.lock:  # opening takes seconds, and a page requests many photographs at once
            if self.failed is not None and time.monotonic() < self.failed[0] + AGAIN_S:
                raise DataError(str(self.failed[1]))
            try:
                self.splits = self.splits or self.run.splits()
            except OnceForAllError as error:
                self.failed = time.monotonic(), error
                raise
        images = self.splits.held_out
        if not 0 <= i < len(images):
            raise DataError(f"no held-out image {i}: there are {len(images):,}")
        return thumbnails_of(images, [i])[0]


def measure_look(run: Run, id: str, name: str, arch: Arch, *, export: str | None = None, progress: Progress = QUIET) -> NetworkLook:
    """Measure a network on the held-out images and save its answers image by image.

    An `export`, by its name in specialised/, is measured with its own weights, which may be fine-tuned.
    """
    progress.say("opening the run and its images")
    splits, facts = run.splits(), dict[str, Any](name=name, arch=arch.to_json())
    images = splits.held_out
    if export is None:
        weights, supernet = open_newest(run)
        progress.say("measuring its statistics on training images")
        network = calibrated(run, supernet, arch, splits)
        facts |= {"weights": weights.digest, "final": weights.final}
        facts["name"] += "" if weights.final else f", step {weights.step:,}"
    else:
        facts |= {"weights": written_at(run, export), "final": True, "export": export}
        network = as_it_was(load(_place_of(run, export)))
    found = list[tuple[NDArray[Any], ...]]()

    def keep(wanted: NDArray[Any], probabilities: NDArray[Any]) -> None:
        own = probabilities.astype(np.float32)
        found.append((wanted, own) if run.task.several else (wanted, probabilities.argmax(1), own.max(1)))
        done = sum(len(labels) for labels, *_ in found)
        progress.count(done, len(images), f"held-out images: {done:,} of {len(images):,}")

    judge_network(run, network, images, arch.resolution, keep)
    facts |= {"fingerprint": run.require_images().fingerprint}
    facts |= {"classes": list(run.info.classes), "names": images.names}
    labels, said, *sure = (np.concatenate(parts) for parts in zip(*found, strict=True))
    look = NetworkLook(id, facts, labels, said, *(sure or [LabelAnswers((labels,), (said,)).thresholds().astype(np.float32)]))
    _write(run.folder / "explorer" / "looks" / f"{id}.safetensors", look)
    return look


def written_at(run: Run, export: str) -> str:
    """When the weights of an exported network were written; "0" where there are none."""
    return str(changed_at(_place_of(run, export) / "weights.safetensors"))


def _place_of(run: Run, export: str) -> Path:
    """The folder of one of the networks in specialised/."""
    own = run.folder / "specialised" / export
    return own if own.is_dir() else read_record(own.with_name(f"{export}.json"), Specialised).folder


def _write(path: Path, look: NetworkLook) -> None:
    tensors = {name: torch.from_numpy(getattr(look, name)) for name in TENSORS}
    save_tensors(make_folder(path.parent) / path.name, tensors, look.facts)


def _read(path: Path) -> NetworkLook:
    tensors, facts = load_tensors(path)
    if not {"name", "arch", "weights", "final", "fingerprint", "classes", "names"} <= set(facts):
        raise KeyError(path.name)
    return NetworkLook(path.stem, facts, *(tensors[name].numpy() for name in TENSORS))


def _first(sure: NDArray[Any], found: NDArray[np.bool_]) -> list[int]:
    """The most confident of the images where `found`, at most `SHOWN`."""
    places = np.flatnonzero(found)
    shown: list[int] = places[np.argsort(-sure[places], kind="stable")][:SHOWN].tolist()
    return shown


def changed_at(path: Path) -> int:
    """Modification time of a file or folder in nanoseconds; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
