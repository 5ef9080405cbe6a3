"""`ofa compare`: fixed networks, each fine-tuned alone, against a run's networks within the same budgets on the same images."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arch import Arch
from ...calibrate import Calibrated
from ...common.arguments import takes
from ...common.files import locked, make_folder, read_lines, reading_or_writing, sha256, text_sha256, write_json
from ...common.progress import QUIET, Progress
from ...common.readable import plural
from ...data import Images
from ...errors import DeviceError, InfeasibleError, ModelError, TrainingError
from ...latency import Device, Timing, measure_networks
from ...options.choosing import CompareOptions
from ...options.shared import Budget
from ...plan import Plan
from ...scores import Confusion, imbalance
from ...tasks.task import require_multiclass
from ..accuracies.predictor import measured_rows
from ..evaluate import calibrated, judge_network
from ..run_directory.run import Run
from ..search import FINALIST_IMAGES, Candidate, Searcher
from ..specialising.choose import confirmed
from ..training.compute import choose_compute
from .fixed import AskedRival, FixedNetwork, Told, asked_for, brought_in, fine_tuned
from .versus import FOLDER, RESULT, Comparison, Costs, Rival, stored_comparison, verdict

Event = dict[str, Any]
Found = dict[Budget, tuple[Candidate, float]]  # our network for a budget, and the seconds its search took
PATIENCE_S = 20.0  # for narrow intervals of latencies that are shown side by side


@takes(CompareOptions)
def compare(options: CompareOptions, *, progress: Progress = QUIET) -> Comparison:
    """Fine-tune fixed networks with a run's recipe, and report for each budget whether they or the run's networks win.

    The budgets are each fixed network's latency, multiply-accumulates and parameters, and those given. For each budget, the run's
    network is searched as by `ofa specialise`, and the fixed one chosen on held-out images. Then all are timed in turns and
    measured once on the test images. With the same arguments and weights, the stored result is returned, and with no networks the
    last one.

    Raises:
        StoppedError: on request, after a checkpoint.
    """
    run = Run.open(options.folder, options.data)
    if not options.networks:
        if (last := stored_comparison(run)) is None:
            raise ModelError(f"{options.folder}: nothing compared yet: name networks, e.g. --with timm:mobilenetv3_small_100@96")
        progress.say(f"the last comparison, from {run.folder / FOLDER / RESULT}")
        return last
    run.require_images()
    require_multiclass(
        run.task, "ofa compare", "networks that were taken home are compared by ofa evaluate EXPORT DATA --against EXPORT"
    )
    told, asked = Told(options.epochs, options.budget_s, options.rate), asked_for(options.networks, run.space.resolutions[-1])
    run.weights_hash()  # raises an error unless its training has finished
    if run.augment is None:
        raise TrainingError(
            f"{options.folder} has imported weights and no recipe for fine-tuning other networks: compare a run of ofa train"
        )
    if Device.parse(options.device).imported:
        raise DeviceError(
            f"{options.device}: its times were imported, so other networks cannot be timed on it: give another --device"
        )
    searcher = Searcher(run, options.device, [Budget(latency_ms=1.0), *options.budgets], images=FINALIST_IMAGES, progress=progress)
    with locked(make_folder(run.folder / FOLDER)):
        fixed = _trained(run, searcher, asked, told, progress)
        key = _key(run, searcher, fixed, options.budgets, options.finalists, options.seed)
        path, before = run.folder / FOLDER / RESULT, stored_comparison(run)
        again = f"as compared before: to search, time and open the test images again, remove {path}"
        if before is not None and before.key == key:
            progress.say(again)
            return before
        if before is not None:
            aside = path.with_name(f"result-{before.key}.json")
            why = "networks, limits or settings differ, or the run was trained, profiled or measured again"
            progress.say(f"another comparison than the last one ({why}), which is kept as {aside}")
        mine = path.with_name(f"result-{key}.json")
        found = stored_comparison(run, mine.name)
        if found is None:
            found = _compared(searcher, fixed, options, key, progress)
        else:
            progress.say(again)
        if before is not None:
            write_json(aside, before.to_json())
        write_json(path, found.to_json())
        with reading_or_writing(mine):
            mine.unlink(missing_ok=True)
    return found


def _key(run: Run, searcher: Searcher, fixed: Sequence[FixedNetwork], budgets: Sequence[Budget], finalists: int, seed: int) -> str:
    """A key of everything the comparison depends on."""
    files = [run.folder / "latency" / str(searcher.device) / "table.json", run.folder / "accuracy" / "predictor.safetensors"]
    told = [run.weights_hash(), *(sha256(path) for path in files), [one.folder.name for one in fixed]]
    limits = [{name: None if most is None else float(most) for name, most in asdict(budget).items()} for budget in budgets]
    settings = [limits, str(searcher.device), finalists, seed, *([] if run.metric == "top1" else [run.metric])]
    return text_sha256(json.dumps([told, settings]))[:16]


def _trained(run: Run, searcher: Searcher, asked: Sequence[AskedRival], told: Told, progress: Progress) -> list[FixedNetwork]:
    """Fine-tune the fixed networks, one after the other."""
    compute, networks, found = choose_compute(), [], []
    for one in asked:  # first, so that a wrong name stops before hours of training
        progress.say(f"loading {one.name}")
        networks.append(brought_in(run, one, told))
    for number, one in enumerate(asked, 1):
        progress.say(f"{one.name}, fixed network {number} of {len(asked)}")
        found.append(fine_tuned(run, searcher.splits, one, told, networks.pop(0), compute=compute, progress=progress))
    return found


def _compared(
    searcher: Searcher, fixed: Sequence[FixedNetwork], options: CompareOptions, key: str, progress: Progress
) -> Comparison:
    """Compare the trained networks."""
    run = searcher.run
    progress.say(f"timing {plural(len(fixed), 'fixed network')} on {searcher.device}")
    timings = _times(searcher, [one.plan for one in fixed])
    budgets = _budgets(fixed, timings, options.budgets)
    found, notes = _searched(searcher, list(budgets), finalists=options.finalists, seed=options.seed, progress=progress)
    archs = list(dict.fromkeys(candidate.arch for candidate, _ in found.values()))
    plans = {arch: run.space.lower(arch, run.num_classes) for arch in archs}
    archs.sort(key=lambda arch: plans[arch].macs)
    progress.say(f"timing {plural(len(fixed) + len(archs), 'network')} in turns")
    final = _times(searcher, [*(one.plan for one in fixed), *(plans[arch] for arch in archs)])
    names = ", ".join(one.trained.name for one in fixed)
    test = run.open_test(searcher.splits, f"comparison with {names}")
    progress.say(f"measuring all of them on {len(test):,} test images")
    predicted: dict[str, NDArray[np.int64]] = {}
    rivals = []
    for one, timing in zip(fixed, final, strict=False):
        own = one.trained
        facts: dict[str, Any] = {"name": own.name, "ours": False, "resolution": one.resolution}
        facts |= {"held_out": own.held_out.score(run.metric), "seconds": own.seconds, "epochs": own.epochs, "weights": own.weights}
        rivals.append(_rival(run, one.calibrated(run, searcher.splits), one.plan, timing, test, predicted, facts))
    ours: dict[Arch, Rival] = {}
    for number, (arch, timing) in enumerate(zip(archs, final[len(fixed) :], strict=True), 1):
        ready = calibrated(run, searcher.supernet, arch, searcher.splits, begun=searcher.statistics.get(arch))
        facts = {"name": f"ours {number}", "ours": True, "resolution": arch.resolution, "arch": arch.to_json()}
        facts |= {"held_out": searcher.accuracies[arch].value}
        ours[arch] = _rival(run, ready, plans[arch], timing, test, predicted, facts)
    by_name = {one.name: one for one in rivals}
    verdicts = []
    for budget, of in budgets.items():
        rival = ours[found[budget][0].arch] if budget in found else None
        if of and budget.latency_ms is not None:  # as timed in turns with the others
            budget = Budget(latency_ms=max(by_name[name].ms for name in of))
        verdicts.append(verdict(budget, of, rival, rivals, metric=run.metric, labels=test.labels, predicted=predicted))
    costs = _costs(run, searcher, fixed, [seconds for _, seconds in found.values()])
    notes = [note for one in fixed for note in one.trained.notes] + notes
    if run.info.origin is not None:
        notes.append(f"the training of {run.info.origin.folder}, from which this run started, is not counted")
    return Comparison(
        key, searcher.device.spec, searcher.hardware, tuple(rivals), tuple(ours.values()), tuple(verdicts), costs, tuple(notes),
        uneven=imbalance(test.labels), metric=run.metric,
    )  # fmt: skip


def _times(searcher: Searcher, plans: Sequence[Plan]) -> list[Timing]:
    """Latencies timed in turns, at the level of the run's profile."""
    networks = [(plan, None) for plan in plans]
    return measure_networks(networks, searcher.device, patience_s=PATIENCE_S, anchor=searcher.anchor)


def _budgets(fixed: Sequence[FixedNetwork], timings: Sequence[Timing], more: Sequence[Budget]) -> dict[Budget, tuple[str, ...]]:
    """The budgets to compare: each fixed network's costs, with the names of the networks, and the budgets given."""
    found: dict[Budget, tuple[str, ...]] = {}
    for one, timing in zip(fixed, timings, strict=True):
        for budget in (Budget(latency_ms=timing.ms), Budget(macs=one.plan.macs), Budget(params=one.plan.params)):
            found[budget] = (*found.get(budget, ()), one.trained.name)
    for budget in more:
        found.setdefault(budget, ())

    def place(budget: Budget) -> tuple[int, float]:
        costs = (budget.latency_ms, budget.macs, budget.params)
        return next((kind, cost) for kind, cost in enumerate(costs) if cost is not None)

    return {budget: found[budget] for budget in sorted(found, key=place)}


def _searched(
    searcher: Searcher, budgets: Sequence[Budget], *, finalists: int, seed: int, progress: Progress
) -> tuple[Found, list[str]]:
    """The run's network for each budget, and notes on budgets without one."""
    found: Found = {}
    notes = []
    for budget in budgets:
        began = time.monotonic()
        try:
            candidate, _ = confirmed(searcher, budget, finalists=finalists, seed=seed, progress=progress)
        except InfeasibleError as error:
            notes.append(f"none of ours for {budget}: {error}")
            continue
        found[budget] = candidate, time.monotonic() - began
    return found, notes


def _rival(
    run: Run,
    ready: Calibrated,
    plan: Plan,
    timing: Timing,
    test: Images,
    predicted: dict[str, NDArray[np.int64]],
    facts: Mapping[str, Any],
) -> Rival:
    """Measure a network on the test images; its predictions are added to `predicted`."""
    batches: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []  # predicted classes, and their probabilities
    judge_network(run, ready, test, facts["resolution"], lambda _, p: batches.append((p.argmax(1), p.max(1))))
    classes, confidence = (np.concatenate(part) for part in zip(*batches, strict=True))
    predicted[facts["name"]] = classes
    confusion = Confusion.of(test.labels, classes, confidence, run.num_classes)
    return Rival(
        test=confusion.top1, balanced=confusion.balanced, macro_f1=confusion.macro_f1, interval=confusion.interval(run.metric),
        images=confusion.images,
        macs=plan.macs, params=plan.params,
        ms=timing.ms, ms_low=timing.low, ms_high=timing.high, **facts,
    )  # fmt: skip


def _costs(run: Run, searcher: Searcher, fixed: Sequence[FixedNetwork], searches: Sequence[float]) -> Costs:
    """Seconds that our networks and the fixed ones cost."""
    training = max((float(r["seconds"]) for r in read_lines(run.folder / "metrics.jsonl")), default=0.0)
    accuracy = sum(row.seconds for row in measured_rows(run))
    place = run.folder / "latency" / str(searcher.device) / "measurements.jsonl"
    calls = [r for r in read_lines(place) if "repeats" in r]
    profile = sum(float(r["ms"]) * int(r["repeats"]) for r in calls) / 1000
    search = sum(searches) / len(searches) if searches else 0.0
    return Costs(training + accuracy, profile + search, sum(one.trained.seconds for one in fixed) / len(fixed))
