"""`ofa specialise --finetune`: fine-tune a network between its choice and its export.

finetuned/NAME-KEY/ in the run directory holds the choice and the checkpoints until the network is exported, so that the same
command resumes with the same network after any interruption.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from ...arch import Arch
from ...calibrate import Accuracy, Calibrated, evaluate_network, recalibrate
from ...common.files import busy, locked, make_folder, reading_or_writing, text_sha256, write_json
from ...common.progress import Event, Progress
from ...common.readable import duration, percent, plural
from ...common.records import json_of, read_record
from ...data import Augment, Splits, TrainBatches
from ...errors import CheckpointError, StatisticsError, StoppedError, TrainingError
from ...latency import Timing
from ...options.presets import PRESETS
from ...options.shared import Budget
from ...scores import METRICS
from ...supernets.supernet import Supernet
from ...train import Recipe, Schedule, Settings, finetune, finetuning
from ...train.checkpoint import latest
from ..evaluate import calibrated
from ..run_directory.run import Run
from ..search import Candidate, Searcher
from ..training.batches import batch_maker
from ..training.compute import choose_compute
from ..training.follow import for_labels

FOLDER = "finetuned"
RATE_SHARE = 1.0  # of the supernet's peak learning rate; measured, docs/results/finetune.md
IMPORTED_SHARE = 0.25  # of the paper's learning rate; not measured
IMPORTED = PRESETS["imagenet-ofa"]  # the recipe of the authors' weights
BATCH = 64  # largest batch size for imported weights, with a proportional learning rate


@dataclass(frozen=True)
class Finetuned:
    """The result of fine-tuning a network.

    Args:
        epochs: epochs over the training images.
        before: accuracy on held-out images before fine-tuning.
        after: accuracy afterwards; None if training diverged.
        taken: whether the fine-tuned network is exported, because it is not worse on the held-out images.
        metric: the metric that decided.
    """

    epochs: int
    before: Accuracy
    after: Accuracy | None
    taken: bool
    metric: str = "top1"

    def __str__(self) -> str:
        """One line of text."""
        before, after = (None if found is None else percent(found.score(self.metric)) for found in (self.before, self.after))
        scores = f"held-out {METRICS[self.metric]} {before} before, {f'{after} after' if after else 'diverged'}"
        kept = "" if self.taken else ": the original network is kept"
        return f"fine-tuned, {plural(self.epochs, 'epoch')}: {scores} ({self.before.images:,} images){kept}"

    @property
    def held_out(self) -> Accuracy:
        """Held-out accuracy of the exported network."""
        return self.after if self.taken and self.after is not None else self.before

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the card."""
        text = f"{str(self)[0].upper()}{str(self)[1:]}."
        if not self.taken:
            return (text,)
        proof = "The files are compared with the fine-tuned network alone: the sub-network inside the supernet has other weights."
        return f"{text} The largest sub-network was the teacher.", proof


@dataclass(frozen=True)
class _Choice:
    """The content of choice.json: the chosen network, and its latency when it was timed once more."""

    candidate: Candidate
    timing: Timing


@dataclass(frozen=True)
class _Course:
    """How to fine-tune: recipe, augmentation, learning rate, and the first batch that the supernet has not seen."""

    recipe: Recipe
    augment: Augment
    rate: float
    first_step: int = 0


@dataclass(frozen=True, eq=False)
class Finetuning:
    """Fine-tuning of one network of a run, from its choice to its export.

    Args:
        searcher: searches the run, and has its supernet and images.
        name: name of the network's folder.
        budget: the network's limits.
        epochs: epochs over the training images.
        seed: for the search, the batches and dropout.
        arch: the network; None to search for it.
    """

    searcher: Searcher
    name: str
    budget: Budget
    epochs: int
    seed: int
    progress: Progress
    arch: Arch | None = None

    @property
    def run(self) -> Run:
        """The network's run."""
        return self.searcher.run

    @cached_property
    def course(self) -> _Course:
        """How the network is fine-tuned: as the supernet was trained, or for imported weights as the authors trained theirs."""
        schedule, augment, images = self.run.schedule, self.run.augment, len(self.searcher.splits.train)
        if augment is None or schedule is None:
            batch = min(BATCH, images)
            rate = IMPORTED.rate * batch / IMPORTED.recipe.batch_size
            return _Course(replace(IMPORTED.recipe, batch_size=batch), IMPORTED.augment, IMPORTED_SHARE * rate)
        recipe = replace(schedule.recipe, batch_size=min(schedule.recipe.batch_size, images))  # larger where nothing was trained
        return _Course(recipe, augment, RATE_SHARE * max(phase.rate for phase in schedule.phases), schedule.steps)

    @cached_property
    def batches(self) -> TrainBatches:
        """The supernet's training batches, continued after its last one."""
        seed, images, classes = self.run.info.seed + self.seed, self.searcher.splits.train, self.run.num_classes
        return TrainBatches(
            images, self.course.recipe.batch_size, seed, self.course.augment, self.run.preprocessing, classes=classes
        )

    @cached_property
    def schedule(self) -> Schedule:
        """The training schedule."""
        return finetuning(self.epochs * self.batches.batches_per_epoch, rate=self.course.rate, recipe=self.course.recipe)

    @cached_property
    def folder(self) -> Path:
        """The folder of the choice and the checkpoints, for these weights, limits and settings."""
        key = [self.run.weights_hash(), str(self.searcher.device), asdict(self.budget), self.seed, self.schedule.to_json()]
        key += [] if self.arch is None else [self.arch.to_json()]
        key += [] if self.run.by is None else [self.run.by]
        return self.run.folder / FOLDER / f"{self.name}-{text_sha256(json.dumps(key))[:8]}"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Lock the folder from the choice until the network is exported, then remove it.

        Raises:
            FileError: another command is working on the same network.
        """
        with locked(make_folder(self.folder)):
            try:
                yield
            except BaseException:
                if not (self.folder / "choice.json").exists():  # nothing was chosen
                    self._remove()
                raise
            self._remove()

    def choose(self, search: Callable[[], tuple[Candidate, Timing]]) -> tuple[Candidate, Timing]:
        """The choice of an interrupted command, else the choice of `search`, whose latencies vary between runs.

        Raises:
            FileError: the stored choice is damaged.
        """
        path = self.folder / "choice.json"
        if not path.exists():
            choice = _Choice(*search())
            write_json(path, json_of(choice))
        else:
            choice = read_record(path, _Choice, otherwise=f"remove {self.folder} to start over")
            self.run.space.check(choice.candidate.arch)
            self.progress.note(f"resuming fine-tuning of {self.folder.name}")
        return choice.candidate, choice.timing

    def finish(self, chosen: Candidate) -> tuple[Calibrated, Finetuned]:
        """Finish training and measure; return the network that is better on the held-out images, recalibrated, and the gain.

        Raises:
            StoppedError: stopped on request, after a checkpoint.
        """
        arch, supernet, splits = chosen.arch, self.searcher.supernet, self.searcher.splits
        self.progress.say(f"fine-tuning {self.name} for {plural(self.epochs, 'epoch')}")
        after: Calibrated | None = None
        try:
            after = self._trained(supernet, arch, splits)
        except StoppedError:
            raise
        except (TrainingError, StatisticsError) as error:
            self.progress.note(str(error))

        def held_out(network: Calibrated) -> Accuracy:
            return evaluate_network(network, self.run.eval_batches(splits.held_out, arch.resolution), self.run.task.tally())

        own = untuned(self.searcher, arch)
        before, found = held_out(own), None if after is None else held_out(after)
        metric = self.run.metric
        taken = found is not None and found.score(metric) >= before.score(metric)
        tuned = Finetuned(self.epochs, before, found, taken, metric)
        self.progress.note(str(tuned))
        if after is not None and taken:
            return after, tuned
        return own, tuned

    def _remove(self) -> None:
        with reading_or_writing(self.folder):
            shutil.rmtree(self.folder)
        with suppress(OSError):  # others are there
            self.folder.parent.rmdir()

    def _trained(self, supernet: Supernet, arch: Arch, splits: Splits) -> Calibrated:
        compute = choose_compute()
        teacher = calibrated(self.run, supernet, self.run.space.largest(arch.resolution), splits).network
        network = supernet.extract(arch, dropout=self.course.recipe.dropout).to(compute.device)
        by_labels = for_labels(self.run.task, splits, self.run.num_classes, self.course.recipe)
        seed = self.run.info.seed + self.seed
        settings = Settings(seed, self.batches.batches_per_epoch, precision=compute.precision, **by_labels)
        try:
            with batch_maker(self.batches, compute, self.progress) as make:
                finetune(
                    network, self.schedule, lambda step: make(self.course.first_step + step, arch.resolution),
                    folder=self.folder, num_classes=self.run.num_classes, settings=settings,
                    teacher=teacher.to(compute.device).requires_grad_(False),
                    plan=self.run.space.lower(arch, self.run.num_classes), progress=replace(self.progress, event=self._report),
                )  # fmt: skip
        except CheckpointError as error:
            raise CheckpointError(f"{error}; to fine-tune again, remove {self.folder}") from None
        self.progress.say(f"measuring the fine-tuned network on {len(splits.held_out):,} held-out images")
        plain = supernet.extract(arch)  # without dropout layers
        plain.load_state_dict(network.cpu().state_dict())
        return recalibrate(plain, self.run.calibration_batches(splits, arch.resolution))

    def _report(self, event: Event) -> None:
        if event["event"] == "epoch":
            left = "" if event["epoch"] == event["epochs"] else f", {duration(event['remaining_s'])} left"
            event = {"event": "note", "text": f"epoch {event['epoch']} of {event['epochs']}: loss {event['loss']:.3f}{left}"}
        self.progress.event(event)


def untuned(searcher: Searcher, arch: Arch) -> Calibrated:
    """A network with the supernet's weights, continuing the BatchNorm statistics measured in the search."""
    return calibrated(searcher.run, searcher.supernet, arch, searcher.splits, begun=searcher.statistics.get(arch))


def unfinished(run: Run) -> Iterator[str]:
    """A line for each interrupted or running fine-tuning."""
    for path in sorted((run.folder / FOLDER).glob("*/choice.json")):
        folder = path.parent
        saved = latest(folder)
        step, of = (0, "") if saved is None else (saved.step, f" of {Schedule.from_json(saved.facts['schedule']).steps:,}")
        done = of == f" of {step:,}"
        state = "done, but not exported" if done else "interrupted"
        more = "running now" if busy(folder) else f"{state}: the same ofa specialise resumes it"
        yield f"{folder.name}: fine-tuning, step {step:,}{of}, {more}"
