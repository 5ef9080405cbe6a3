"""Fixed networks, each fine-tuned alone with a run's recipe: what people do without an elastic network.

A fixed network is a space of one architecture, so it is trained, saved and measured like any run.
compare/NAME-KEY/ in the run directory holds its checkpoints until it is trained, then network.safetensors and network.json.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from ...calibrate import Accuracy, Calibrated, evaluate_network
from ...common.files import make_folder, read_text, reading_or_writing, sha256, text_sha256, write_text
from ...common.progress import QUIET, Progress
from ...common.readable import amount, duration
from ...common.records import read_record, write_record
from ...data import PREPROCESSING, Splits
from ...data.preparation import for_channels
from ...errors import CheckpointError, FileError, ModelError, SpaceError, StoppedError, TrainingError
from ...models import Brought, bring, is_source, lasting_source
from ...plan import Plan
from ...resolutions import Resolution, height_width, longest_side, read_resolution
from ...space import Space
from ...spaces import from_json
from ...supernets.conversion import elastic
from ...supernets.supernet import Supernet
from ...train import Phase, Schedule, Settings, work_per_step
from ...train.checkpoint import load_tensors, save_tensors
from ...train.state import load_weights
from ..evaluate import calibrated
from ..run_directory.metrics import Metrics
from ..run_directory.run import Run
from ..training.batches import batch_maker
from ..training.budget import epochs_within
from ..training.compute import Compute
from ..training.follow import follow_schedule, validation
from ..training.own import OwnNetwork, require_classifier_only, require_logits, started
from .versus import FOLDER

Event = dict[str, Any]
FORMAT = "onceforall.fixed/1"
WEIGHTS = "network.safetensors"
RATE_SHARE = 0.5  # docs/results/pretrained.md


@dataclass(frozen=True)
class AskedRival:
    """A network to compare with: its source, valid from any working folder, the pixels of its images, and a short name."""

    source: str
    resolution: Resolution
    name: str


@dataclass(frozen=True)
class Told:
    """How to train fixed networks. With neither epochs nor seconds, each takes as many multiply-accumulates as the run did.

    Args:
        epochs: over the training images.
        budget_s: seconds for each.
        rate: peak learning rate; None for that of `rate_of`.
    """

    epochs: float | None = None
    budget_s: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.budget_s is not None:
            raise TrainingError("--epochs and --budget exclude each other: leave one out")
        for name, value in (("--epochs", self.epochs), ("--budget", self.budget_s), ("--rate", self.rate)):
            if value is not None and not 0 < value < 1e9:
                raise TrainingError(f"{name} {value:g}: give a number above 0")

    @property
    def numbers(self) -> list[float | None]:
        """The settings as floats for comparison: 2 epochs equal 2.0 epochs."""
        return [None if value is None else float(value) for value in (self.epochs, self.budget_s, self.rate)]


@dataclass(frozen=True)
class Trained:
    """What network.json holds.

    Args:
        name: a unique name.
        space: of one architecture, as JSON.
        held_out: accuracy of the recalibrated network on held-out images.
        seconds: training time.
        epochs: over the training images.
        weights: the initial weights, as text.
        notes: lines for the reader.
        sha256: of the file with the weights.
    """

    name: str
    space: dict[str, Any]
    held_out: Accuracy
    seconds: float
    epochs: float
    weights: str
    notes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class FixedNetwork:
    """A trained fixed network: its folder, a supernet of one architecture with its weights, and its record."""

    folder: Path
    supernet: Supernet
    trained: Trained

    @property
    def plan(self) -> Plan:
        """The network's plan, for costs and latency."""
        space = self.supernet.space
        return space.lower(space.largest(), self.supernet.num_classes)

    @property
    def resolution(self) -> Resolution:
        """Side of the images in pixels, or their sides."""
        (pixels,) = self.supernet.space.resolutions
        return pixels

    def calibrated(self, run: Run, splits: Splits) -> Calibrated:
        """The network to evaluate, with BatchNorm statistics of the run's training images."""
        return calibrated(run, self.supernet, self.supernet.space.largest(), splits)


def asked_for(texts: Sequence[str], largest: Resolution) -> list[AskedRival]:
    """The networks that --with names.

    Args:
        texts: each "timm:NAME", "torchvision:NAME" or "FILE.py:FUNCTION", with "@" and pixels after it or without.
        largest: pixels where none are given.

    Raises:
        ModelError: a text has no such form, or two networks share a name.
    """
    found = []
    for text in texts:
        source, at, pixels = text.strip().rpartition("@")
        if not at or not is_source(source) or "/" in pixels:  # a name or path with an @ in it
            source, pixels = text.strip(), ""
        try:
            size = read_resolution(pixels) if pixels else largest
        except SpaceError:
            size = 0
        if not 0 < max(height_width(size)) < 10_000:
            raise ModelError(f"--with {text}: after @ the side of the images in pixels is needed, such as @{largest}")
        if not is_source(source):
            raise ModelError(f"--with {text!r}: give timm:NAME, torchvision:NAME or FILE.py:FUNCTION, with @PIXELS after it or not")
        lasting = lasting_source(source)
        short = lasting if ".py:" not in lasting else f"{Path(lasting.rpartition(':')[0]).name}:{lasting.rpartition(':')[2]}"
        found.append(AskedRival(lasting, size, f"{short}@{size}"))
    names = [one.name for one in found]
    for one in found:
        if names.count(one.name) > 1:
            raise ModelError(f"--with: two networks are called {one.name}: name each once, or rename a file or function")
    return found


def rate_of(run: Run, schedule: Schedule) -> tuple[float, float]:
    """Peak learning rate for training one network alone, and the warm-up's share of its steps.

    The rate is that of the phase that trains the largest network alone, else half that of the first phase (`RATE_SHARE`).
    """
    alone = next((p for p in schedule.phases if _alone(run.space, p)), None)
    phase = alone or schedule.phases[0]
    return phase.rate * (1.0 if alone else RATE_SHARE), phase.warmup_steps / phase.steps if phase.steps else 0.0


def _alone(space: Space, phase: Phase) -> bool:
    kept = space.keep_largest(**phase.keep)
    return kept.count() == len(kept.resolutions)


def brought_in(run: Run, asked: AskedRival, told: Told) -> tuple[Brought, OwnNetwork | None]:
    """The network as it is before training, and as a space of one architecture; None for that if it was trained before.

    Raises:
        ModelError: there is no such network, or it does not take these images or returns no logits.
    """
    brought = bring(asked.source, channels=run.space.channels, seed=run.info.seed)
    if (_folder(run, asked, told, brought) / "network.json").exists():
        return brought, None
    return brought, _fixed(asked, brought, run.space.channels)


def fine_tuned(
    run: Run,
    splits: Splits,
    asked: AskedRival,
    told: Told,
    network: tuple[Brought, OwnNetwork | None],
    *,
    compute: Compute,
    progress: Progress = QUIET,
) -> FixedNetwork:
    """Train a fixed network, resuming from its last checkpoint, or load it if it was trained before.

    Images, splits, preprocessing, batches, augmentation, optimizer and label smoothing are the run's.

    Args:
        run: the run with the recipe; its training has finished.
        told: training time and learning rate.
        network: see `brought_in`.

    Raises:
        StoppedError: stopped on request.
    """

    def note(text: str) -> None:
        progress.note(text)

    brought, own = network
    folder = _folder(run, asked, told, brought)
    if own is None:
        note(f"{asked.name}: trained before, {folder}")
        return _read(run, folder, asked.name)
    remarks = _remarks(run, asked, brought)
    for text in (*brought.notes, *remarks):
        note(text)
    one = replace(run, info=replace(run.info, space=json.loads(own.supernet.space.to_json())))
    make_folder(folder)
    if not (folder / "schedule.json").exists():  # decided once, even if training is interrupted
        write_text(folder / "schedule.json", _schedule(one, run, splits, asked, told, compute, note).to_json())
    supernet = one.fresh_supernet()
    load_weights(supernet, started(own, supernet)[0])
    supernet, settings = supernet.to(compute.device), Settings(one.info.seed, precision=compute.precision)
    try:
        follow_schedule(one, splits, supernet, folder, settings=settings, compute=compute, progress=progress)
    except StoppedError as error:
        raise StoppedError(f"{asked.name}: {str(error).partition(' on request')[0]}; the same ofa compare resumes it") from None
    except CheckpointError as error:
        raise CheckpointError(f"{error}; to train {asked.name} again, remove {folder}") from None
    return _written(run, one, splits, supernet, folder, asked.name, brought, remarks)


def _folder(run: Run, asked: AskedRival, told: Told, brought: Brought) -> Path:
    """Where the trained network is, or will be: its name and a key of everything it depends on."""
    data = run.require_images()
    recipe = [
        read_text(run.folder / "schedule.json"),
        run.info.augment,
        run.info.seed,
        run.info.crop_share,
        run.info.mean,
        run.info.std,
        *([run.info.interpolation] if run.info.interpolation != PREPROCESSING.interpolation else []),  # older runs have none
        run.info.space,
    ]
    text = json.dumps([asked.source, asked.resolution, brought.weights.sha256, told.numbers, data.fingerprint, recipe])
    plain = re.sub(r"[^\w.@-]+", "-", asked.name, flags=re.ASCII)
    return run.folder / FOLDER / f"{plain}-{text_sha256(text)[:8]}"


def _fixed(asked: AskedRival, brought: Brought, channels: int) -> OwnNetwork:
    """The network as a space of one architecture; a `ModelError` if it takes no images of this size, or returns no logits."""
    try:
        supernet = elastic(brought.model, (asked.resolution,), widths=(), heads=(), depths=(), kernels=(), channels=channels)
    except (ModelError, SpaceError) as error:
        raise ModelError(f"--with {asked.name}: {error}; if it is the size of the images, give another @PIXELS") from error
    own = OwnNetwork(brought, supernet.eval())
    require_classifier_only(own)
    require_logits(own)
    return own


def _remarks(run: Run, asked: AskedRival, brought: Brought) -> tuple[str, ...]:
    """Notes on what could be more favorable for the fixed network."""
    found = []
    if brought.weights.random:
        found.append(
            f"{asked.name} starts from random weights: for trained ones give timm:NAME.TAG, torchvision:NAME.DEFAULT or a function"
        )
    steps = run.preprocessing
    share = brought.crop_share or steps.crop_share
    mean, std = (for_channels(values, steps.channels) for values in (brought.mean, brought.std))
    if (mean, std, brought.interpolation, share) != (steps.mean, steps.std, steps.interpolation, steps.crop_share):
        found.append(f"{asked.name} was made for other preprocessing: here, the run's preprocessing is used for all networks")
    if (size := run.require_images().size) < ceil(longest_side([asked.resolution]) / run.info.crop_share):
        found.append(f"{asked.name} trains on enlarged crops: the run keeps its training images at {size} pixels")
    return tuple(found)


def _weights(brought: Brought) -> str:
    weights = brought.weights
    if weights.random:
        return "random weights"
    return f"{weights.file or 'the weights that it has'} (sha256 {weights.sha256}; license {weights.license or 'not known'})"


def _schedule(
    one: Run, run: Run, splits: Splits, asked: AskedRival, told: Told, compute: Compute, note: Callable[[str], None]
) -> Schedule:
    """The training schedule."""
    theirs = _schedule_of(run.folder)
    rate, warm = rate_of(run, theirs)
    rate = rate if told.rate is None else told.rate
    batches = one.train_batches(splits, theirs.recipe.batch_size)

    def schedule(steps: int) -> Schedule:
        return Schedule((Phase(asked.name, {}, steps, min(steps, round(warm * steps)), rate, distil=False),), theirs.recipe)

    per_epoch = batches.batches_per_epoch
    (step_work,) = work_per_step(schedule(1), one.space, run.num_classes)
    if told.epochs is not None:
        steps, why = round(told.epochs * per_epoch), "as told"
    elif told.budget_s is not None:
        trial = one.fresh_supernet().to(compute.device)
        with batch_maker(batches, compute) as make:
            epochs = epochs_within(
                told.budget_s, trial, schedule, make, lambda: validation(one, trial, one.space, splits),
                batches_per_epoch=per_epoch, compute=compute,
            )  # fmt: skip
        steps, why = round(epochs * per_epoch), f"within {duration(told.budget_s)}"
    else:
        done = theirs.steps_done(Metrics.of(run.folder).step)  # training may have ended early
        works = zip(work_per_step(theirs, run.space, run.num_classes), done, strict=True)
        work = sum(w * steps for w, steps in works)
        steps, why = round(work / step_work), f"as many multiply-accumulates as the training of the run took, {amount(work)}"
    if steps < 1:
        raise TrainingError(f"{asked.name}: this is less than one training step ({why}): give --epochs or --budget")
    note(f"{asked.name}: {steps / per_epoch:.3g} epochs ({steps:,} steps), {why}")
    return schedule(steps)


def _written(
    run: Run, one: Run, splits: Splits, supernet: Supernet, folder: Path, name: str, brought: Brought, notes: tuple[str, ...]
) -> FixedNetwork:
    """Save the trained network with its statistics and remove its checkpoints."""
    arch = supernet.space.largest()
    ready = calibrated(one, supernet, arch, splits)
    accuracy = evaluate_network(ready, run.eval_batches(splits.held_out, arch.resolution))
    tensors = {key: value.detach().cpu() for key, value in supernet.state_dict().items()}
    tensors |= {key: value.detach().cpu() for key, value in ready.network.state_dict().items() if key in tensors}
    save_tensors(folder / WEIGHTS, tensors, {"space": one.info.space})
    spent = Metrics.of(folder)
    epochs = spent.step / one.train_batches(splits, _schedule_of(folder).recipe.batch_size).batches_per_epoch
    trained = Trained(
        name, one.info.space, accuracy, spent.seconds or 0.0, epochs, _weights(brought), notes, sha256(folder / WEIGHTS)
    )
    write_record(folder / "network.json", trained, FORMAT)
    with reading_or_writing(folder):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return _read(run, folder, name)


def _read(run: Run, folder: Path, name: str) -> FixedNetwork:
    """Load a network that `_written` saved; a `FileError` if it is damaged."""
    path, again = folder / "network.json", f"remove {folder} to train {name} again"
    trained = read_record(path, Trained, FORMAT, otherwise=again)
    if trained.sha256 != sha256(folder / WEIGHTS):
        raise FileError(f"{folder}: damaged: remove it to train {name} again")
    try:
        supernet = Supernet(from_json(json.dumps(trained.space)), run.num_classes)
    except ValueError as error:
        raise FileError(f"{path}: damaged or edited ({error}): {again}") from None
    load_weights(supernet, load_tensors(folder / WEIGHTS)[0])
    return FixedNetwork(folder, supernet.eval(), trained)


def _schedule_of(folder: Path) -> Schedule:
    return Schedule.from_json(read_text(folder / "schedule.json"))
