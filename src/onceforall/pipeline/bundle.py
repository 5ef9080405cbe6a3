"""`ofa bundle`: several sub-networks of a run in one folder with each shared weight stored once, verified and measured."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..calibrate import Accuracy, Calibrated, evaluate_network, tally
from ..common.arguments import takes
from ..common.files import writable
from ..common.progress import QUIET, Progress
from ..common.readable import plural
from ..data import Images
from ..errors import ArchError, CheckpointError
from ..export import Bundle, BundleFacts, BundleMember, BundleProofs, Together, bundle_program, load, room_for_bundle, write_bundle
from ..latency import Device, Timing, available, time_calls
from ..options.choosing import BundleOptions
from ..options.shared import Budget
from ..supernets.supernet import Supernet
from .evaluate import calibrated, choose_archs, held_out_thresholds, network_place
from .run_directory.images import of_commit, short_name
from .run_directory.run import Run
from .search import FINALIST_IMAGES, Searcher
from .specialising.choose import confirmed, limits_name
from .specialising.export_inputs import input_steps, proof_images, trained_on
from .specialising.switching import compare_sizes, measure_switching, write_separately
from .specialising.through_files import by_programs, require_same, torch_threads


@dataclass(frozen=True)
class Bundled:
    """A bundle with its folder, further measurements, and proofs."""

    folder: Path
    bundle: Bundle
    facts: BundleFacts
    proofs: BundleProofs


@takes(BundleOptions)
def bundle(options: BundleOptions, *, progress: Progress = QUIET) -> Bundled:
    """Put several sub-networks into one folder, for switching between them at run time.

    Raises:
        VerificationError: through the bundle, a network computes something else; no folder is left.
        CheckpointError: a network of `archs` has its own weights, so it cannot share the supernet's.
    """
    run = Run.open(options.folder, options.data)
    if not options.budgets and not options.archs:
        raise ArchError("no networks for the bundle: give limits, such as --latency 2ms,5ms, or --arch with names or files")
    run.require_images()
    chosen = Device.parse(options.device)
    target = Path(options.out) if options.out else run.folder / "bundle"
    named = [found for text in options.archs for found in _named(run, text, options.seed)]
    names = [*map(limits_name, options.budgets), *(member.name for member, _ in named)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ArchError(f"two networks of the bundle would be called {twice[0]!r}: leave one out, or rename its file")
    room_for_bundle(writable(target))
    searcher = (
        Searcher(run, options.device, options.budgets, images=FINALIST_IMAGES, progress=progress) if options.budgets else None
    )
    supernet = run.supernet() if searcher is None else searcher.supernet
    splits = run.splits(Progress(say=progress.say)) if searcher is None else searcher.splits
    for member, place in named:
        _require_shared(supernet, member, place)
    finalists, seed = options.finalists, options.seed
    found = [] if searcher is None else [_searched(searcher, budget, finalists, seed, progress) for budget in options.budgets]
    members = [*found, *(member for member, _ in named)]
    progress.say(f"measuring BatchNorm statistics of {len(members)} networks")
    ready = {member.name: calibrated(run, supernet, member.arch, splits) for member in members}
    members = [
        replace(m, metric=run.metric, thresholds=held_out_thresholds(run, ready[m.name], splits, m.arch.resolution))
        for m in members
    ]

    def measured(made: Bundle, files: Path) -> tuple[list[BundleMember], BundleFacts]:
        test = run.open_test(splits, f"ofa bundle, card of {target.name}")
        progress.say(f"measuring test accuracy with the card's program in a separate process, {len(test):,} images one by one")
        programs = {member.name: bundle_program(member.name) for member in members}
        through = {name: accuracy for name, (accuracy, _) in by_programs(files, programs, test, run.task).items()}
        known = [
            _with_accuracy(run, made, member, ready[member.name], splits.held_out, test, through[member.name]) for member in members
        ]
        progress.say("measuring latency and switching through the bundle")
        return _with_times(run, made, files, chosen, known)

    progress.say(f"writing and verifying {target}")
    made, facts, proofs = write_bundle(
        target,
        [Together(m, ready[m.name].network, proof_images(run, splits, m.arch.resolution)) for m in members],
        supernet=supernet,
        classes=run.info.classes,
        preprocessing=input_steps(run),
        measure=measured,
        task=run.task.name,
        trained_on=trained_on(run),
    )
    return Bundled(target, made, facts, proofs)


def _named(run: Run, text: str, seed: int) -> list[tuple[BundleMember, Path | None]]:
    """The networks for one part of --arch, each with its folder, if it has one."""
    place = network_place(run, text)
    chosen = choose_archs(run.space, str(place), seed)
    folder = place if place.is_dir() else None
    return [(BundleMember(name.removesuffix(".json").replace(" ", "-"), arch), folder) for name, arch in chosen]


def _require_shared(supernet: Supernet, member: BundleMember, place: Path | None) -> None:
    """Check that the network's folder has no weights, or the supernet's; a `CheckpointError` if it has others (fine-tuned ones)."""
    if place is None or not (place / "weights.safetensors").exists():
        return
    own, shared = load(place).state_dict(), supernet.extract(member.arch).state_dict()
    for name, tensor in shared.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            continue
        if name not in own or own[name].shape != tensor.shape or not torch.allclose(own[name], tensor, rtol=1e-4, atol=1e-6):
            raise CheckpointError(
                f"{place}: its weights are not the supernet's (fine-tuned, or from another run), so they cannot be shared: "
                f"give --arch {place / 'arch.json'} to bundle this architecture with the supernet's weights"
            )


def _searched(searcher: Searcher, budget: Budget, finalists: int, seed: int, progress: Progress) -> BundleMember:
    candidate, timing = confirmed(searcher, budget, finalists=finalists, seed=seed, progress=progress)
    return BundleMember(limits_name(budget), candidate.arch, device_latency_ms=_interval(timing))


def _with_accuracy(
    run: Run, made: Bundle, member: BundleMember, ready: Calibrated, held_out: Images, test: Images, found: Accuracy
) -> BundleMember:
    """Add the member's accuracies through the bundle; `found`, by the card's program on the test images, must be the same."""
    resolution = member.arch.resolution
    batches = ((made(x, member.name), labels) for x, labels in run.eval_batches(held_out, resolution))
    before = tally(batches, run.task.tally())
    own = evaluate_network(ready, run.eval_batches(test, resolution), run.task.tally())
    require_same(member.name, own, found, through="bundle")
    if run.metric != "top1":
        member = replace(member, held_out_score=before.score(run.metric), test_score=found.score(run.metric))
    return replace(member, held_out_top1=before.top1, test_top1=found.top1, test_images=found.images)


def _with_times(
    run: Run, made: Bundle, files: Path, device: Device, members: Sequence[BundleMember]
) -> tuple[list[BundleMember], BundleFacts]:
    """The members with their latencies, if the device is this machine, and the facts for the card."""
    rng = np.random.default_rng(0)
    here = device.on_processor
    threads, batch = (device.threads, device.batch) if here else (1, 1)
    images = {m.name: torch.from_numpy(rng.standard_normal((batch, *made.plans[m.name].input_shape), np.float32)) for m in members}
    with torch_threads(threads), tempfile.TemporaryDirectory() as folder:
        separate = write_separately(made, Path(folder))
        sizes = compare_sizes(files, made, separate)
        load_ms, switches = measure_switching(files, separate, images, threads=threads)
        timings = time_calls([partial(made, x, name) for name, x in images.items()], limit=math.inf)
    pytorch = available("pytorch")
    method = f"{pytorch.processor}, PyTorch {pytorch.version}, {plural(threads, 'thread')}, batch {batch}, "
    method += f"lower quartile of {min(t.repeats for t in timings)} calls or more, drift removed"
    data, commit = short_name(run.require_images().source)
    facts = BundleFacts(
        name=f"{data}, {len(members)} networks on shared weights",
        data=data,
        device=device.spec,
        method=method,
        load_ms=load_ms,
        switches=switches,
        sizes=sizes,
        made_with=[str(run.info.environment["command"])],
        notes=[*of_commit(data, commit), *run.notes],
    )
    return [replace(m, latency_ms=_interval(t) if here else None) for m, t in zip(members, timings, strict=True)], facts


def _interval(timing: Timing) -> tuple[float, float, float]:
    return timing.ms, timing.low, timing.high
