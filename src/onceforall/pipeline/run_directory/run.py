"""`Run`: the run directory, in which commands save what the next ones need.

run.json              the data, space, seed, versions and command            train, import
schedule.json         phases and recipe                                      train
problems.jsonl        images that were left out                              train, import
images.parquet        the files of the images: sizes, times, hashes of ends  train, import
metrics.jsonl         losses and validations, one JSON record per line       train
checkpoints/          the last two states                                    train
teacher.safetensors   the largest network after the first phase              train
start.safetensors     the initial weights, with --from                       train
trained_on.safetensors  hashes of the training images                        train
supernet.safetensors  the trained weights                                    train, import
evaluations.jsonl     accuracies of evaluated sub-networks                   evaluate
latency/DEVICE/       measured segments and the latency table                profile
accuracy/             accuracy data and predictor                            predict, import
accuracy-METRIC/      the same for a metric other than the run's             specialise --fleet
specialised/NAME/     exported networks                                      specialise
compare/              fixed networks fine-tuned alone, and the comparison    compare
finetuned/NAME-KEY/   the choice and checkpoints of unfinished fine-tuning   specialise
report.html           everything on one page                                 report
original.pth          the weights under the original's names                 export-original
test_openings.jsonl   when and why the test images were opened
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...common.advice import not_a_run, ofa
from ...common.files import append_line, busy, make_folder, read_text, reading_or_writing, recording, write_text
from ...common.progress import QUIET, Progress
from ...common.records import as_record, read_record, read_records, write_record
from ...data import Augment, Images, Preprocessing, Problem, Splits, open_data
from ...errors import DataError, FileError, Note, TrainingError
from ...resolutions import Resolution, aspect_of
from ...space import Space
from ...spaces import from_json
from ...tasks.task import Task, require_metric, task_of
from ...train import Schedule
from ...train.checkpoint import digest_of, load_tensors, save_tensors
from .images import NEW_PLACE, asked_as, decoding, default_gb, gone, place_now, root_of, same_place
from .info import DataInfo, RunInfo

if TYPE_CHECKING:  # importing torch takes seconds
    from torch import Tensor

    from ...data import TrainBatches
    from ...data.formats.listing import FileChanges
    from ...supernets.supernet import Supernet

FORMAT = "onceforall.run/1"
BEGINNINGS = frozenset(
    {"schedule.json", "problems.jsonl", "images.parquet", "start.safetensors", "trained_on.safetensors"}
)  # written before run.json
NO_DIGESTS = np.zeros(0, "V16")  # digests of no images
MOST_FILES = 200_000  # that images.parquet lists; more of them take minutes to look at
ADJUSTED = (
    "The training compensated for uneven classes (logit adjustment): rare classes are predicted more often than they occur, and "
    "probabilities are as if the classes were less uneven."
)
CALIBRATION_IMAGES = 2000  # as in the paper
CALIBRATION_BATCH = 125
EVALUATION_BATCH = 32  # larger ones are not faster on a CPU, and take more memory: benchmarks/specialise.py
EVALUATION_BATCH_GPU = 256


@dataclass(frozen=True)
class Run:
    """An existing run directory.

    Args:
        info: the content of run.json.
        moved: whether the images were given at a place other than in run.json; `splits` checks and saves it.
        by: a metric for measuring and choosing networks other than the run's own, see `judged_by`.
    """

    folder: Path
    info: RunInfo
    moved: bool = False
    by: str | None = None

    @staticmethod
    def require_free(
        folder: Path, leftovers: Set[str] = BEGINNINGS, *, advice: str = "choose another --out, or --resume the run in it"
    ) -> None:
        """Check that a run can be started in a folder. `leftovers` are the files that an interrupted start leaves.

        Raises:
            FileError: the folder holds more than these, or cannot be written.
        """
        with reading_or_writing(folder):
            if folder.exists():
                if not folder.is_dir():
                    raise FileError(f"{folder}: this is a file, a folder is needed: choose another --out")
                if any(path.name not in leftovers and path.suffix != ".tmp" for path in folder.iterdir()):
                    raise FileError(f"{folder}: already there and not empty: {advice}")
            there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
            if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
                raise FileError(f"{folder}: cannot be created or written, because {there} cannot: choose another --out")

    @classmethod
    def create(
        cls,
        folder: Path,
        info: RunInfo,
        *,
        schedule: Schedule,
        splits: Splits,
        start: Mapping[str, Tensor] | None = None,
        origin: Run | None = None,
        unseen: bool = True,
    ) -> Run:
        """Create the run directory of a training. run.json is written last, so a directory that has it is complete.

        `start` is the initial weights, if not random, and `origin` the run they come from. For weights that come from no run,
        `unseen` says that they have seen no images; otherwise it is not known which.

        Raises:
            FileError: the folder holds something else, or cannot be written. A partly created directory is removed.
        """
        import torch

        cls.require_free(folder)
        before, complete = (NO_DIGESTS, unseen) if origin is None else origin.trained_on()
        digests = np.concatenate([before, splits.train.digests])
        rows = torch.from_numpy(digests.view(np.uint8).reshape(len(digests), NO_DIGESTS.itemsize))
        run = cls(folder, info)
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            make_folder(folder)
            write_text(folder / "schedule.json", schedule.to_json())
            if start is not None:
                save_tensors(folder / "start.safetensors", start, {})
            save_tensors(folder / "trained_on.safetensors", {"digests": rows}, {"complete": complete})
            run.save_listing(splits.files)
            run.save_info(splits.problems)
        except BaseException:
            if (folder / "run.json").exists():  # it is complete, so --resume can continue from it
                raise
            for path in (folder / name for name in BEGINNINGS):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                for path in made:
                    path.rmdir()
            raise
        return run

    def save_listing(self, files: Sequence[str]) -> None:
        """Write images.parquet, by which `ofa status` detects changed files; skipped for very many, which would take minutes."""
        from ...data.formats.listing import Listing

        if self.info.data is not None and 0 < len(files) <= MOST_FILES:
            Listing.of(files, root_of(self.info.data.source)).save(self.folder / "images.parquet")
        else:
            (self.folder / "images.parquet").unlink(missing_ok=True)  # of an earlier place

    def changes(self) -> FileChanges | None:
        """How the files of the images have changed since the run was made; None if not known.

        Raises:
            FileError: images.parquet is damaged.
            DataError: the files can no longer be read as data.
        """
        from ...data.formats.listing import Listing, changes
        from ...data.sources import files_of

        path, data = self.folder / "images.parquet", self.info.data
        if data is None or not path.exists():
            return None
        return changes(Listing.load(path), files_of(data.source, data.reading), root_of(data.source))

    def problems(self) -> list[Problem]:
        """The problems in problems.jsonl, except for images that no row of a table names: it may cover only some of them."""
        from ...data.formats.scan import UNNAMED

        return [problem for problem in read_records(self.folder / "problems.jsonl", Problem) if UNNAMED not in problem.reason]

    def save_info(self, problems: Sequence[Problem]) -> None:
        """Write problems.jsonl and, last of all, run.json."""
        lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
        write_text(self.folder / "problems.jsonl", "".join(lines))
        self._save()

    def _save(self) -> None:
        write_record(self.folder / "run.json", self.info, FORMAT)

    @classmethod
    def open(cls, folder: Path, data: str | None = None) -> Run:
        """Open a run directory.

        Args:
            data: see `moved_to`; None for the place in run.json.

        Raises:
            FileError: this is not a run directory, or run.json is damaged.
            DataError: `data` is given, but the run was imported without images.
        """
        folder = Path(folder)  # most people try a string first
        if not (folder / "run.json").is_file():
            raise FileError(not_a_run(folder))
        run = cls(folder, read_record(folder / "run.json", RunInfo, FORMAT, strict=True))
        try:
            _ = run.space, run.augment, run.preprocessing
        except ValueError as error:
            raise FileError(f"{folder / 'run.json'}: damaged or edited ({error})") from None
        return run if data is None else run.moved_to(data)

    def moved_to(self, data: str) -> Run:
        """The run with its images in another place. `splits` checks that they are the same, and saves the place in run.json.

        Raises:
            DataError: weights were imported without images.
        """
        known = self.require_images()
        if same_place(known, data) or (source := place_now(data)) == known.source:
            return self
        before = tuple(dict.fromkeys((*known.before, known.source)))
        there = replace(known, source=source, before=before, asked=asked_as(data))
        return Run(self.folder, replace(self.info, data=there), moved=True, by=self.by)

    def judged_by(self, metric: str | None) -> Run:
        """The run with another metric for measuring, predicting and choosing networks; None for the run's own.

        Raises:
            DataError: the run's task has no such metric.
        """
        require_metric(metric, self.info.task)
        return replace(self, by=None if metric == self.info.metric else metric)

    @property
    def accuracy(self) -> Path:
        """The folder of accuracy data and predictor; each metric other than the run's has its own."""
        return self.folder / ("accuracy" if self.by is None else f"accuracy-{self.by}")

    def kept_as(self, cache: str | None, cache_gb: float | None = None) -> Run:
        """The run with another cache mode or limit for training images; None keeps the run's own. `save_info` saves it.

        Batches do not depend on it.
        """
        data = self.require_images()
        if cache_gb is None and data.cache != "auto" and (cache == "none") != (data.cache == "none") and cache is not None:
            cache_gb = default_gb(cache)
        changed = replace(data, cache=cache or data.cache, cache_gb=data.cache_gb if cache_gb is None else cache_gb)
        return replace(self, info=replace(self.info, data=changed))

    @property
    def new_place(self) -> str | None:
        """The argument `data` for another process that opens the run; None for the place in run.json."""
        return self.info.data.source if self.moved and self.info.data is not None else None

    @cached_property
    def space(self) -> Space:
        return from_json(json.dumps(self.info.space))

    @property
    def family(self) -> str:
        """Name of the networks' family, or source of the user's own network."""
        return self.space.family if self.info.brought is None else self.info.brought.source

    @property
    def finished(self) -> bool:
        """Whether the final weights are there, trained or imported."""
        return (self.folder / "supernet.safetensors").exists()

    @property
    def num_classes(self) -> int:
        return len(self.info.classes)

    @property
    def metric(self) -> str:
        """The metric of validation, predictors and searches."""
        return self.by or self.info.metric

    @property
    def task(self) -> Task:
        """The task: one class per image, or any number of labels."""
        return task_of(self.info.task)

    @property
    def augment(self) -> Augment | None:
        augment = self.info.augment
        if augment == {}:
            raise ValueError("augment is empty")
        return None if augment is None else as_record(augment, Augment, self.folder / "run.json")

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the run's training; None where weights were imported."""
        path = self.folder / "schedule.json"
        try:
            return Schedule.from_json(read_text(path)) if path.exists() else None
        except TrainingError as error:
            raise FileError(f"{path}: {error}: see {ofa('status', self.folder)}") from None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the weights for cards, see also `RunInfo.notes`."""
        schedule = self.schedule
        adjusted = schedule is not None and schedule.recipe.logit_adjustment > 0
        return (*self.info.notes, *([ADJUSTED] if adjusted else []))

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.info.mean, self.info.std, self.info.crop_share, self.info.interpolation)

    def train_batches(self, splits: Splits, batch_size: int, rank: int = 0, world: int = 1) -> TrainBatches:
        """Training batches by step.

        Raises:
            DataError: there are fewer images than one batch.
            TrainingError: weights were imported, so there is no recipe.
        """
        from ...data import TrainBatches

        if self.augment is None:
            raise TrainingError(f"{self.folder} has imported weights and no recipe: there is nothing to train")
        seed, classes = self.info.seed, self.num_classes
        aspect = aspect_of(self.space.resolutions)
        return TrainBatches(splits.train, batch_size, seed, self.augment, self.preprocessing, rank, world, classes, aspect)

    def eval_batches(self, images: Images, resolution: Resolution) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, preprocessed for evaluation."""
        import torch

        from ...data import eval_batches

        size = EVALUATION_BATCH_GPU if torch.cuda.is_available() else EVALUATION_BATCH
        return eval_batches(images, resolution, size, self.preprocessing)

    def calibration_batches(
        self, splits: Splits, resolution: Resolution, images: int = CALIBRATION_IMAGES, *, after: int = 0
    ) -> Iterator[Tensor]:
        """Training images for measuring BatchNorm statistics, always the same ones; the first `after` are skipped."""
        from ...data import calibration_batches

        seed, steps = self.info.seed, self.preprocessing
        return calibration_batches(splits.train, resolution, images, CALIBRATION_BATCH, seed, steps, after=after)

    def require_images(self) -> DataInfo:
        """How to open the run's data.

        Raises:
            DataError: weights were imported without images.
        """
        if self.info.data is None:
            again = self.info.import_again("--data", "DATA", "--out", "NEW")
            raise DataError(f"{self.folder} was imported without images, which this command needs: {again}")
        return self.info.data

    def splits(self, progress: Progress = QUIET) -> Splits:
        """Open the run's data and check that they are the original ones.

        Args:
            progress: its `say` gets a line when preparing images for evaluation takes long, its `event` "decode" records.

        Raises:
            DataError: there are no images, they are gone, or they differ.
        """
        data = self.require_images()
        if text := gone(data.source):
            raise DataError(f"{text}, and {self.folder} needs them: bring them back, or {self._how_moved()}")

        def require_same(classes: tuple[str, ...]) -> None:
            if classes != self.info.classes:
                unlike = sorted(set(classes) ^ set(self.info.classes)) or ["their order"]
                raise self._others(f"{len(classes)} classes, where it had {self.num_classes}, different: {', '.join(unlike[:5])}")

        splits = open_data(
            data.source, **data.options, on_classes=require_same, on_progress=decoding(progress), on_note=progress.say
        )
        if splits.fingerprint != data.fingerprint:
            found, wanted = (", ".join(f"{n:,} {name}" for name, n in sizes.items()) for sizes in (splits.sizes, self.info.images))
            raise self._others(f"{found} images, where it had {wanted}" if found != wanted else "as many, but different ones")
        if self.moved:
            with recording(f"the new place of the images ({data.source}) is"):
                self._save()
                self.save_listing(splits.files)
                warnings.warn(f"{self.folder}: from now on its images are read from {data.source}", Note, stacklevel=3)
        return splits

    def _others(self, how: str) -> DataError:
        """The error for images that differ from the run's."""
        made, command = ("trained on", "train") if self.info.imported is None else ("imported with", "import")
        data = self.require_images()
        older = (
            "; or this version of onceforall reads images that the one that made the run left out, such as .jfif, without suffix, "
            f"linked, or in Testing/: {command} again, or move them away"
            if data.by_suffix
            else ""
        )
        return DataError(
            f"{data.source}: the images are not those that {self.folder} was {made} ({how}): restore them, "
            f"{self._how_moved()}, or {command} again{older}"
        )

    def _how_moved(self) -> str:
        """What to do if the images are elsewhere; `ofa train` has no --data."""
        if self.info.imported is None and not self.finished:
            return f"give their new place: {ofa('train', NEW_PLACE, '--out', self.folder, '--resume')}"
        return "give their new place with --data"

    def resume_command(self) -> str:
        """The command that resumes training; if the images are gone, with a placeholder for their new place."""
        source = self.require_images().source
        return ofa("train", NEW_PLACE if gone(source) else source, "--out", self.folder, "--resume")

    def open_test(self, splits: Splits, purpose: str) -> Images:
        """The test images for a final report; the purpose is recorded in test_openings.jsonl."""
        images = splits.open_test(purpose)
        with recording(f"that the {len(images):,} test images were opened for {purpose!r} is"):
            append_line(self.folder / "test_openings.jsonl", {"purpose": purpose, "images": len(images)})
        return images

    def trained_on(self) -> tuple[NDArray[np.void], bool]:
        """`Images.digests` of all known training images, including the initial weights'; and whether these are all.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self.folder / "trained_on.safetensors"
        if not path.exists():  # imported
            return NO_DIGESTS, False
        tensors, facts = load_tensors(path)
        return tensors["digests"].numpy().view(NO_DIGESTS.dtype).reshape(-1), bool(facts["complete"])

    def start(self) -> dict[str, Tensor]:
        """The initial weights of a training that does not start from random ones.

        Raises:
            FileError: they are gone.
            CheckpointError: they are damaged.
        """
        return load_tensors(self.folder / "start.safetensors")[0]

    def save_supernet(self, supernet: Supernet) -> None:
        """Write the trained weights."""
        save_tensors(self.folder / "supernet.safetensors", supernet.state_dict(), {"space": self.info.space})

    def supernet(self) -> Supernet:
        """The trained or imported supernet, in eval mode.

        Raises:
            FileError: training has not finished, or the file is gone.
            CheckpointError: the file is damaged or does not fit.
        """
        from ...supernets.supernet import Supernet
        from ...train.state import load_weights

        tensors, _ = load_tensors(self._weights())
        supernet = Supernet(self.space, self.num_classes)
        load_weights(supernet, tensors)
        return supernet.eval()

    def fresh_supernet(self) -> Supernet:
        """A supernet with random weights from the run's seed; torch's generator keeps its state."""
        import torch

        from ...supernets.supernet import Supernet

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.info.seed)
            return Supernet(self.space, self.num_classes)

    def weights_hash(self) -> str:
        """Identifies the trained weights; predictors are pinned to it.

        Raises:
            FileError: training has not finished.
        """
        return digest_of(self._weights())

    def _weights(self) -> Path:
        path = self.folder / "supernet.safetensors"
        if self.finished:
            return path
        if self.info.imported is not None:
            raise FileError(f"{path}: the weights are gone: import them again with {self.info.import_again('--out', 'NEW')}")
        if busy(self.folder):
            look = f"{ofa('status', self.folder)} shows its progress"
            raise FileError(f"{self.folder}: its training is still running: wait until it has finished; {look}")
        raise FileError(f"{self.folder}: its training has not finished: {self.resume_command()}")
