"""`ofa status`: what a run directory holds, what is missing, outdated or damaged, and which commands come next."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..accuracy import AccuracyPredictor, read_rows
from ..common.advice import not_a_run, ofa
from ..common.files import busy, read_lines, read_text, reading_or_writing
from ..common.readable import amount, duration, milliseconds, percent, plural
from ..common.records import as_record, read_record, read_records
from ..data.reading import HUB
from ..errors import CheckpointError, DataError, FileError, OnceForAllError
from ..latency import LatencyTable, Timing, available
from ..scores import METRICS, scores_in_words
from ..train import Schedule
from ..train.checkpoint import digest_of
from .accuracies.predictor import errors_of
from .comparison.versus import stored_comparison, summary, untrained
from .run_directory.images import NEW_PLACE, gone
from .run_directory.limits import middle_ms
from .run_directory.metrics import Metrics
from .run_directory.run import MOST_FILES, Run

State = Literal["done", "going on", "unfinished", "missing", "stale", "damaged"]
UNREADABLE = "what it was fitted to cannot be read: see accuracy data"


@dataclass(frozen=True)
class RunPart:
    """One thing that a run directory holds or could hold.

    Args:
        name: what it is: "run", "images" (if they are gone or changed), "training", "weights", "evaluations", "profile",
            "accuracy data", "predictor", "searches", "network", "bundle", "comparison" or "report".
        state: "stale" if it was made from something that has changed since; "damaged" if it cannot be read.
        text: one line of description.
        command: the command that makes, repairs or resumes it; None if there is nothing to do.
        device: the device of a profile, as `--device` takes it.
        facts: the numbers in the text: top-1 and errors as fractions, times in the unit of their name.
    """

    name: str
    state: State
    text: str
    command: str | None = None
    device: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """A run directory: its parts in the order of use, and the possible next commands, most useful first."""

    folder: Path
    parts: tuple[RunPart, ...]
    next: tuple[str, ...]


def status(folder: Path) -> Status:
    """Report what a run directory holds, without changing anything. Damaged files become parts in the state "damaged".

    Raises:
        FileError: there is no such folder, or it holds nothing of a run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(not_a_run(folder))
    with reading_or_writing(folder):
        names = {path.name for path in folder.iterdir()}
    if "run.json" not in names:
        if not names & {"schedule.json", "supernet.safetensors"}:
            raise FileError(not_a_run(folder))
        text = "stopped before run.json was written: run the same ofa train or ofa import command again"
        return Status(folder, (RunPart("run", "unfinished", text),), ())
    try:
        run = Run.open(folder)
    except OnceForAllError as error:
        return Status(folder, (RunPart("run", "damaged", _line(error)),), ())
    parts: list[RunPart] = []
    for name, tell in PARTS.items():
        try:
            parts.extend(tell(run))
        except (OnceForAllError, OSError) as error:
            parts.append(RunPart(name, "damaged", _line(error)))
    return Status(folder, tuple(parts), tuple(_next(run, parts)))


@dataclass(frozen=True)
class _OfDevice:  # profile.json, and a line of searches.jsonl
    device: str


@dataclass(frozen=True)
class _Tested:
    top1: float
    images: int
    map: float | None = None
    balanced: float | None = None
    macro_f1: float | None = None


@dataclass(frozen=True)
class _Evaluated:  # a line of evaluations.jsonl
    name: str
    split: str
    top1: float
    images: int
    map: float | None = None
    balanced: float | None = None
    macro_f1: float | None = None


@dataclass(frozen=True)
class _Exported:  # specialised/NAME.json
    folder: str
    device: str
    test: _Tested
    latency: Timing
    metric: str | None = None


@dataclass(frozen=True)
class _Member:
    name: str
    test_top1: float | None
    metric: str = "top1"
    test_score: float | None = None


@dataclass(frozen=True)
class _Bundled:  # bundle.json
    members: tuple[_Member, ...]


def _next(run: Run, parts: list[RunPart]) -> Iterator[str]:
    """The commands that can be run now; a suggested latency limit is from the middle of the device's range."""
    ready = any(part.name in ("training", "weights") and part.state == "done" for part in parts)
    gone = any(part.name == "images" and part.state != "stale" for part in parts)  # stale ones may still be the same images
    usable = ready and run.info.data is not None and not gone
    busy_now = any(part.name == "training" and part.state == "going on" for part in parts)  # a profile needs a quiet machine
    always = {"images", "training", "report"} | (set() if busy_now else {"profile"})
    order = ("images", "training", "profile", "predictor", "evaluations", "report")
    commands = [
        part.command
        for name in order
        for part in parts
        if part.name == name and part.command and part.state != "going on" and (usable or name in always)
    ]
    yield from (command for command in commands if "ofa report" not in command)
    if any(part.name == "predictor" and (part.state == "damaged" or part.text == UNREADABLE) for part in parts):
        return  # searches and pages need it and its measurements
    if usable and any(part.name == "predictor" and (part.state == "done" or part.facts.get("measured_since")) for part in parts):
        for part in parts:
            if part.name == "profile" and part.state == "done":
                limits = ("--device", str(part.device), "--latency", f"{middle_ms(run, str(part.device)):.2g}ms")
                yield ofa("search", run.folder, *limits)
                yield ofa("specialise", run.folder, *limits)
    yield from (command for command in commands if "ofa report" in command)


def _run(run: Run) -> Iterator[RunPart]:
    images = ", ".join(f"{count:,} {split.replace('_', '-')}" for split, count in run.info.images.items())
    data = run.info.data
    kind = "" if data is None or not data.how.words else f": {data.how.words}"
    source = "no images" if data is None else f"{data.source} ({images} images{kind})"
    problems = run.problems()
    left_out = sum(problem.count for problem in problems if not problem.doubtful)
    alike, doubtful = (
        sum(problem.count for problem in problems if problem.doubtful and problem.alike == which) for which in (True, False)
    )
    counts = [
        *([f"{left_out:,} images and files left out"] if left_out else []),
        *([f"{plural(doubtful, 'image')} with a doubtful label"] if doubtful else []),
        *([f"{plural(alike, 'image')} nearly the same as a training image"] if alike else []),
    ]
    listed = f"; problems.jsonl: {', '.join(counts)}" if counts else ""
    space = f"{run.family}, {amount(run.space.count())} networks"
    origin = "" if run.info.start is None else f"; started from {run.info.start}"
    facts = {"images": dict(run.info.images), "left_out": left_out, "doubtful": doubtful, "classes": run.num_classes}
    facts |= {"nearly_same": alike, "networks": float(run.space.count())}
    yield RunPart("run", "done", f"{source}, {run.num_classes:,} classes; {space}{origin}{listed}", facts=facts)


def _images(run: Run) -> Iterator[RunPart]:
    """The images, only if they are gone or have changed, or this cannot be determined; nothing is decoded."""
    data = run.info.data
    if data is None:
        return
    facts: dict[str, Any] = {"source": data.source}
    if text := gone(data.source):
        command = ofa("evaluate", run.folder, "--data", NEW_PLACE) if run.finished else None
        yield RunPart("images", "missing", f"{text}: {NEW_PLACE} stands for their new place", command, facts=facts)
        return
    try:
        found = run.changes()
    except DataError as error:
        yield RunPart("images", "damaged", f"changed since the run was made: {_line(error)}", facts=facts)
        return
    if found is None and data.source != "digits" and not data.source.startswith(HUB):
        many = sum(run.info.images.values()) > MOST_FILES
        why = f"none is kept for more than {MOST_FILES:,}" if many else "the run was made by an earlier version"
        text = f"no list of their files ({why}), so it is not known if they changed: {ofa('evaluate', run.folder)} checks this"
        yield RunPart("images", "missing", text, facts=facts)
    if found:
        text = f"{data.source}: files changed since the run was made: {found}; {ofa('evaluate', run.folder)} checks whether "
        text += "the images differ: if so, restore them, or train again from these weights"
        facts |= {name: len(names) for name, names in vars(found).items()}
        yield RunPart(
            "images",
            "stale",
            text,
            ofa("train", data.source, *data.reading.words, "--from", run.folder, "--out", "NEW"),
            facts=facts,
        )


def _training(run: Run) -> Iterator[RunPart]:
    if run.info.imported is not None:
        weights = run.weights_hash()
        yield RunPart("weights", "done", f"imported: {run.info.source}; {weights[:12]}", facts={"weights_hash": weights})
        return
    metrics = Metrics.of(run.folder)
    last, kept, spent = metrics.step, metrics.kept, metrics.seconds
    valid = [record for record in metrics.records if record.top1 is not None and record.step <= kept]
    ends, scores = ({r.subnet: getattr(r, name) for r in valid} for name in ("top1", "value"))
    by_subnet = ", ".join(f"{name} {percent(score)}" for name, score in scores.items())
    which = "last" if kept == last else f"weights of step {kept:,} kept (patience);"
    top1 = f"; {which} held-out {METRICS[run.metric]}: {by_subnet}" if ends else ""
    facts: dict[str, Any] = {"step": last, "seconds": spent, "held_out_top1": ends, "held_out_score": scores}
    facts["metric"] = run.metric
    resume = run.resume_command()
    if run.finished:
        try:
            weights = run.weights_hash()
            text = f"{last:,} steps in {duration(spent)}, weights {weights[:12]}{top1}"
            yield RunPart("training", "done", text, facts=facts | {"steps": last, "weights_hash": weights})
        except CheckpointError as error:
            yield RunPart(
                "training", "damaged", f"{_line(error)}: remove that file, then {resume} continues from the last checkpoint"
            )
        return
    facts["steps"] = steps = Schedule.from_json(read_text(run.folder / "schedule.json")).steps
    if busy(run.folder):
        yield RunPart("training", "going on", f"step {last:,} of {steps:,}{top1}", facts=facts)
        return
    whole, torn = [], []
    for path in sorted((run.folder / "checkpoints").glob("step-*.safetensors")):
        try:
            digest_of(path)
            whole.append(int(path.stem.removeprefix("step-")))
        except OnceForAllError as error:
            torn.append(_line(error))
    if torn and not whole:
        yield RunPart("training", "damaged", f"every checkpoint is damaged ({torn[0]}): train again with another --out")
        return
    where = f"step {whole[-1]:,} of {steps:,}" if whole else f"the first of {steps:,} steps, no checkpoint yet"
    facts["checkpoint"] = whole[-1] if whole else None
    yield RunPart("training", "unfinished", f"can be resumed from {where}{top1}", resume, facts=facts)
    yield from (RunPart("training", "damaged", text) for text in torn)


def _evaluations(run: Run) -> Iterator[RunPart]:
    records = read_lines(run.folder / "evaluations.jsonl")
    opened = len(read_lines(run.folder / "test_openings.jsonl"))
    test = f"; the test images were opened {plural(opened, 'time')} (test_openings.jsonl)" if opened else ""
    if not records:
        text, command = f"no sub-network evaluated yet{test}", ofa("evaluate", run.folder, "--arch", "random:16")
        yield RunPart("evaluations", "missing", text, command, facts={"sub_networks": 0, "evaluations": 0, "test_openings": opened})
        return
    last = as_record(records[-1], _Evaluated, run.folder / "evaluations.jsonl")
    named = f"the last, {last.name}: {scores_in_words(run.metric, vars(last))} on {last.images} {last.split} images"
    networks = len({str(record.get("arch")) for record in records})  # a network may be evaluated again, or on other images
    times = f" in {len(records):,} evaluations" if len(records) > networks else ""
    facts = {"sub_networks": networks, "evaluations": len(records), "test_openings": opened}
    yield RunPart("evaluations", "done", f"{plural(networks, 'sub-network')}{times}; {named}{test}", facts=facts)


def _profiles(run: Run) -> Iterator[RunPart]:
    folders = sorted(path for path in (run.folder / "latency").glob("*") if path.is_dir())
    if not folders:
        yield RunPart("profile", "missing", "no device profiled yet", ofa("profile", run.folder, "--device", "cpu"))
    for folder in folders:
        try:
            yield _profile(run, folder)
        except OnceForAllError as error:
            spec = None
            with suppress(OnceForAllError):
                spec = read_record(folder / "profile.json", _OfDevice).device
            command = None if spec is None else ofa("profile", run.folder, "--device", spec)
            yield RunPart("profile", "damaged", _line(error), command, spec)


def _profile(run: Run, folder: Path) -> RunPart:
    if not (folder / "table.json").exists():
        head = folder / "profile.json"
        spec = read_record(head, _OfDevice).device if head.exists() else folder.name
        state: State = "going on" if busy(folder) else "unfinished"
        return RunPart(
            "profile", state, f"{spec}: started", ofa("profile", run.folder, "--device", spec) if head.exists() else None
        )
    table = LatencyTable.load(folder / "table.json", run.space, run.num_classes)
    device, errors = table.device, table.errors
    text = f"{device.spec} on {table.processor}: mean error {percent(errors.mape)}, Kendall tau {errors.kendall_tau:.3f}"
    text += f" (n = {errors.n})"
    facts = {"mean_error": errors.mape, "kendall_tau": errors.kendall_tau, "n": errors.n, "version": table.version}
    if device.host is None:
        here = available(device.runtime)
        if (table.processor, table.version) != (here.processor, here.version or ""):
            now = f"this machine has {here.processor} and {device.runtime} {here.version or 'not'}"
            again = ofa("profile", run.folder, "--device", device.spec, "--again")
            return RunPart("profile", "stale", f"{text}; measured with version {table.version}, {now}", again, device.spec, facts)
    return RunPart("profile", "done", text, device=device.spec, facts=facts)


def _accuracy_data(run: Run) -> Iterator[RunPart]:
    others = [metric for metric in METRICS if (run.folder / f"accuracy-{metric}").is_dir()]  # for devices of a fleet
    for each in (run, *(run.judged_by(metric) for metric in others if metric != run.info.metric)):
        if any(each.accuracy.glob("part-*.parquet")):
            yield _measured(each, each.accuracy)


def _measured(run: Run, place: Path) -> RunPart:
    try:
        rows = read_rows(place, run.space, weights_hash=run.weights_hash())
    except DataError as error:  # measured with other weights
        return RunPart("accuracy data", "stale", _line(error))
    except FileError as error:
        again = ofa("predict", run.folder) if run.by is None else "the ofa specialise --fleet that needs them"
        return RunPart("accuracy data", "damaged", f"{_line(error)}, then {again}")
    top1, scores = [row.top1 for row in rows], [row.value for row in rows]
    on = f" on {rows[0].images:,} held-out images" if run.metric == "top1" else ""  # for another score the number would mislead
    between = f"{METRICS[run.metric]} {percent(min(scores))} to {percent(max(scores))}{on}"
    facts = {"sub_networks": len(rows), "held_out_top1_range": [min(top1), max(top1)], "images": rows[0].images}
    facts["held_out_score_range"] = [min(scores), max(scores)]
    return RunPart("accuracy data", "going on" if busy(place) else "done", f"{len(rows):,} sub-networks, {between}", facts=facts)


def _predictor(run: Run) -> Iterator[RunPart]:
    path, command = run.folder / "accuracy" / "predictor.safetensors", ofa("predict", run.folder)
    if not path.exists():
        yield RunPart("predictor", "missing", "no accuracy predictor yet", command if run.info.data is not None else None)
        return
    refit = ofa("accuracy", "fit", run.folder)
    try:
        predictor, (errors, _) = AccuracyPredictor.load(path, run.space), errors_of(run)
    except FileError as error:
        yield RunPart("predictor", "damaged", _line(error), refit)
        return
    try:
        measured = len(read_rows(path.parent, run.space))
    except FileError:
        yield RunPart("predictor", "stale", UNREADABLE)
        return
    if predictor.weights_hash != run.weights_hash():
        text = f"{predictor.kind}, fitted for other weights than the current ones: remove {path.parent}, then {command}"
        yield RunPart("predictor", "stale", text)
        return
    if not errors:
        yield RunPart("predictor", "done", f"{predictor.kind}, not checked on networks of this run")
        return
    fitted, checked = int(errors["fitted_on"]), int(errors["n"])
    text = f"{predictor.kind}, fitted on {fitted} sub-networks; on {checked} others: RMSE {percent(errors['rmse'], 2)}"
    text += f", Kendall tau {errors['kendall_tau']:.3f}, 90 % error bars cover {percent(errors['coverage90'], 0)}"
    new = measured - fitted - checked
    facts = {"kind": predictor.kind, **errors, "measured_since": new}
    if new > 0:
        yield RunPart("predictor", "stale", f"{text}; {new:,} sub-networks measured since", refit, facts=facts)
    elif new < 0:
        yield RunPart("predictor", "stale", f"{text}; measurements of {-new:,} of them are gone", command, facts=facts)
    else:
        yield RunPart("predictor", "done", text, facts=facts)


def _searches(run: Run) -> Iterator[RunPart]:
    if records := read_records(run.folder / "searches.jsonl", _OfDevice):
        devices = ", ".join(sorted({record.device for record in records}))
        text = f"{len(records)} finalists measured, for {devices} (searches.jsonl)"
        yield RunPart("searches", "done", text, facts={"finalists": len(records)})


def _networks(run: Run) -> Iterator[RunPart]:
    misses: dict[str, str] = {}
    if (run.folder / "fleet.json").exists():
        from .fleet import fleet_misses

        try:
            misses = fleet_misses(run)
        except OnceForAllError as error:
            yield RunPart("network", "damaged", _line(error))
    for path in sorted((run.folder / "specialised").glob("*.json")):
        try:
            own = read_record(path, _Exported)
        except OnceForAllError as error:
            yield RunPart("network", "damaged", _line(error))
            continue
        ms = own.latency.ms
        test = scores_in_words(own.metric or run.metric, vars(own.test))
        text = f"{own.folder}: test {test} ({own.test.images} images), {milliseconds(ms)} on {own.device}"
        text += f"; {misses.pop(path.stem)}" if path.stem in misses else ""
        there = Path(own.folder).is_dir() or path.with_suffix("").is_dir()
        facts = {"folder": own.folder, "test_top1": own.test.top1, "ms": ms, "device": own.device}
        facts |= {} if own.test.map is None else {"test_map": own.test.map}
        state: State = "done" if there else "missing"
        yield RunPart("network", state, text if there else f"{text}; its folder is missing", facts=facts)
    yield from (RunPart("network", "missing", f"{name}: none: {why}") for name, why in misses.items())
    if any(run.folder.glob("finetuned/*")):
        from .specialising.finetune import unfinished

        yield from (RunPart("network", "unfinished", text) for text in unfinished(run))


def _bundles(run: Run) -> Iterator[RunPart]:
    for path in sorted(run.folder.glob("*/bundle.json")):
        try:
            bundle = read_record(path, _Bundled, otherwise="make it again with ofa bundle")
        except OnceForAllError as error:
            yield RunPart("bundle", "damaged", _line(error))
        else:
            found = {member.name: member.test_top1 for member in bundle.members}
            others = {member.name: member.test_score for member in bundle.members if member.metric != "top1"}
            members = [f"{name} {percent(value)}" for name, value in (found | others).items()]
            metric = bundle.members[0].metric if bundle.members else "top1"
            text = f"{path.parent}: test {METRICS[metric]} of {plural(len(members), 'network')}: "
            facts = {"folder": str(path.parent), "test_top1": found} | ({f"test_{metric}": others} if others else {})
            yield RunPart("bundle", "done", text + ", ".join(members), facts=facts)


def _comparison(run: Run) -> Iterator[RunPart]:
    found = stored_comparison(run)
    if found is not None:
        names = ", ".join(network.name for network in found.fixed)
        facts = {network.name: network.test for network in (*found.fixed, *found.ours)}
        yield RunPart("comparison", "done", f"with {names}: {summary(found)}", facts={"test_top1": facts})
    for text in untrained(run):
        yield RunPart("comparison", "unfinished", text)


def _report(run: Run) -> Iterator[RunPart]:
    page, command = run.folder / "report.html", ofa("report", run.folder)
    if not page.exists():
        yield RunPart("report", "missing", "no page yet", command)
        return
    patterns = "metrics.jsonl supernet.safetensors latency/*/table.json accuracy/predictor.safetensors specialised/*.json"
    patterns += " compare/result.json fleet.json"
    sources = [path for pattern in patterns.split() for path in run.folder.glob(pattern)]
    newer = [path for path in sources if path.stat().st_mtime > page.stat().st_mtime]
    if newer:
        yield RunPart("report", "stale", f"{page}: older than {newer[0].relative_to(run.folder)}", command)
    else:
        yield RunPart("report", "done", str(page))


PARTS: dict[str, Callable[[Run], Iterator[RunPart]]] = {
    "run": _run,
    "images": _images,
    "training": _training,
    "evaluations": _evaluations,
    "profile": _profiles,
    "accuracy data": _accuracy_data,
    "predictor": _predictor,
    "searches": _searches,
    "network": _networks,
    "bundle": _bundles,
    "comparison": _comparison,
    "report": _report,
}


def _line(error: Exception) -> str:
    """The error as one line."""
    text = str(error) if isinstance(error, OnceForAllError | OSError) else repr(error)
    return " ".join(text.split())
