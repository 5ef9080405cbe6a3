"""The commands that work on a run and on its exports."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from ..common.advice import ofa
from ..common.progress import Progress
from ..common.readable import amount, between, duration, memory, milliseconds, percent, plural
from ..errors import DataError, InfeasibleError, ValueTextError, VerificationError
from ..options.choosing import BundleOptions, ClassifyOptions, CompareOptions, SearchOptions, SpecialiseOptions
from ..options.declare import Flag
from ..options.shared import FINALISTS, RUN, SEED, Budget
from ..options.training import TrainOptions
from ..resolutions import in_pixels
from ..scores import METRICS, UNEVEN, scores_in_words
from .views import run_record, showing, tell

DEMO = Path("demo-run")
Points = Annotated[int | None, Flag("N networks along the whole front instead, e.g. 10.", "N", name="--front", least=2)]


def train_command(o: TrainOptions, as_json: bool) -> None:
    """Train an elastic network.

    For --from see docs/own-networks.md; FILE.py:FUNCTION runs its code.
    """
    from ..pipeline.train import train

    with showing() as progress:
        run = train(o, progress=progress)
    if as_json:
        print(json.dumps(run_record(run)))
        return
    print(f"trained: {run.folder}; next: {', '.join(ofa(name, run.folder) for name in ('evaluate', 'profile', 'predict'))}")


def specialise_command(
    o: SpecialiseOptions,
    as_json: bool,
    *,
    no_limit: Annotated[bool, Flag("The most accurate network, whatever it costs.")] = False,
    fleet: Annotated[Path | None, Flag("Devices with limits, e.g. devices.yaml: docs/fleet.md.", "FILE")] = None,
) -> None:
    """Export the best network for each budget, with proof."""
    if fleet is not None:
        _fleet(o, fleet, as_json, no_limit)
        return
    from ..pipeline.run_directory.limits import suggested_limits

    if o.budgets and no_limit:
        raise ValueTextError("--no-limit and limits exclude each other: leave one out")
    if not (o.budgets or no_limit):
        raise ValueTextError(
            "without a limit this would export the most accurate network, whatever it costs: give one, such as "
            f"{suggested_limits(o.folder, o.devices[0])}, or --no-limit if that is what you want"
        )
    from ..pipeline import Run
    from ..pipeline.specialise import specialise

    metric = Run.open(o.folder).metric

    def show(result: Any) -> None:
        if not as_json:
            print(_line(result, metric), flush=True)
        for reading in result.readers:
            if reading.warning is not None:
                tell(f"warning: {reading.warning}")

    with showing() as progress:
        options = replace(o, budgets=o.budgets or [Budget()])
        results = specialise(options, progress=replace(progress, result=show))
    if as_json:
        print(json.dumps([_network_record(r) for r in results]))
    if lost := [f"{r.folder} has no {format}: {why}" for r in results for format, why in r.left_out.items()]:
        raise VerificationError("; ".join(lost))


def _fleet(o: SpecialiseOptions, file: Path, as_json: bool, no_limit: bool) -> None:
    """Export a network for each device of the file; an error at the end if a device has none."""
    if o.budgets or no_limit or list(o.devices) != ["cpu"] or tuple(o.export) != ("onnx",):
        raise ValueTextError(f"--fleet {file} has devices, limits and formats: leave these options out")
    from ..pipeline.fleet import read_fleet, specialise_fleet

    members = read_fleet(file)

    def show(row: Any) -> None:
        if not as_json:
            print(_fleet_line(row), flush=True)

    with showing() as progress:
        rows = specialise_fleet(o, members, progress=replace(progress, result=show))
    if as_json:
        print(json.dumps([{**asdict(replace(row, between=None)), "interval": row.interval} for row in rows]))
    if missed := [row.name for row in rows if row.missed is not None]:
        raise InfeasibleError(f"{len(missed)} of {len(rows)} devices have no suitable network: {', '.join(missed)}")


def _fleet_line(row: Any) -> str:
    if row.test is None:
        return f"{row.name}: none: {row.missed}"
    through = "" if row.precision == "float32" else f" in {row.precision}"
    accuracy = f"test {row.metric} {percent(row.test)}{between(row.interval)}{through}"
    line = f"{row.name}: {accuracy}, {milliseconds(row.latency_ms)}, {row.folder}"
    if row.before is not None:
        test, ms = row.before
        change = f"{100 * (row.test - test):+.1f} points, {100 * (row.latency_ms / ms - 1):+.0f} % of the time"
        limits = "" if row.before_limits is None else f" within {row.before_limits}:"
        line += f"; before{limits} {percent(test)}, {milliseconds(ms)} ({change})"
    return line if row.missed is None else f"{line}; {row.missed}"


def report_command(
    as_json: bool,
    *,
    runs: Annotated[list[Path], replace(RUN, help="Run directory; several are compared.")],
    out: Annotated[Path | None, Flag("Instead of report.html in RUN, e.g. flowers.html.", "FILE")] = None,
) -> None:
    """Write a self-contained HTML page about runs."""
    from ..report import report

    page = report(*runs, out=out)
    print(json.dumps({"page": str(page)}) if as_json else page)


def demo_command(
    as_json: bool, *, out: Annotated[Path, Flag("Run directory to create or resume.", "RUN")] = DEMO, seed: Annotated[int, SEED] = 0
) -> None:
    """Do all of the above on handwritten digits, in minutes."""
    from ..pipeline.demo import demo
    from .demo_view import demo_lines

    with showing() as progress:
        done = demo(out, seed=seed, progress=progress)
    if as_json:
        ends = [{"name": end.name, **asdict(end.accuracy)} for end in done.ends]
        networks, gains = [_network_record(r) for r in done.networks], [asdict(gain) for gain in done.gains]
        print(json.dumps({"ends": ends, "networks": networks, "gains": gains, "page": str(done.page)}))
        return
    for line in demo_lines(done):
        print(line)


def _network_record(r: Any) -> dict[str, Any]:
    return {
        "folder": str(r.folder),
        "test": asdict(r.test),
        "latency": asdict(r.latency),
        "files": [asdict(file) for file in r.files],
        "left_out": dict(r.left_out),
        "readers": [asdict(reading) for reading in r.readers],
        "finetuned": None if r.finetuned is None else asdict(r.finetuned),
        "pushed": r.pushed,
    }


def _line(r: Any, metric: str) -> str:
    share = "" if r.budget.latency_ms is None else f" = {percent(r.latency.ms / r.budget.latency_ms, 0)} of the budget"
    if r.budget.latency_ms is not None and r.latency.ms > r.budget.latency_ms:
        share += " (over it: if that matters, lower the limit, or try again on an idle machine)"
    tuned = "" if r.finetuned is None else f"; {r.finetuned}"
    metric = r.metric or metric
    test = scores_in_words(metric, vars(r.test), r.interval(metric))
    return f"{r.folder}: test {test} ({r.test.images} images), {milliseconds(r.latency.ms)}{share}{tuned}"


def search_command(o: SearchOptions, as_json: bool, *, points: Points = None) -> None:
    """Find the most accurate sub-networks within limits."""
    from ..pipeline import Run
    from ..pipeline.front import front
    from ..pipeline.search import search

    run = Run.open(o.folder)
    metric = METRICS[run.metric]
    if points is not None and o.finalists != FINALISTS:
        raise DataError("--front and --finalists exclude each other: leave one out")

    for budget in [o.budget] if isinstance(o.budget, Budget) else o.budget:
        options, progress = replace(o, budget=budget), Progress(say=tell)
        found = search(options, progress=progress) if points is None else front(options, points=points, progress=progress)
        if as_json:
            print(json.dumps({"budget": asdict(budget), "finalists": [_candidate_record(c, run) for c in found]}))
            continue
        print(f"{budget}:")
        for c in found:
            predicted = f"{100 * c.predicted_top1:.1f} ± {percent(c.predicted_std)}"
            accuracy = f"held-out {metric} {percent(c.accuracy.value)} (predicted {predicted})"
            speed = f"{milliseconds(c.timing.ms)} (predicted {milliseconds(c.predicted_ms)})"
            plan = run.space.lower(c.arch, run.num_classes)
            size = f"{amount(plan.macs)} MACs, {amount(plan.params)} parameters"
            mark = "" if c.stands else " (a faster one is as accurate)"
            print(f"  {in_pixels(c.arch.resolution)}, depths {c.arch.depths}: {accuracy}, {speed}, {size}{mark}")
    if not as_json and points is None:
        export = ofa("specialise", run.folder)
        print(f"appended to {run.folder / 'searches.jsonl'}; {export} with the same limits exports the best")
    elif not as_json:
        print(f"written to {run.folder / 'front.json'}")


def _candidate_record(c: Any, run: Any) -> dict[str, Any]:
    plan = run.space.lower(c.arch, run.num_classes)
    return {
        "top1": c.accuracy.top1,
        "score": c.accuracy.value,
        **c.predictions,
        "latency_ms": c.timing.ms,
        "predicted_ms": c.predicted_ms,
        "predicted_std": c.predicted_std,
        "macs": plan.macs,
        "params": plan.params,
        "arch": json.loads(c.arch.to_json()),
    }


def bundle_command(o: BundleOptions, as_json: bool) -> None:
    """Put several networks into one folder, to switch at run time."""
    from ..pipeline.bundle import bundle

    done = bundle(o, progress=Progress(say=tell))
    members, sizes = done.bundle.members, done.facts.sizes
    if as_json:
        entries = [member.to_json(done.bundle.plans[name]) for name, member in members.items()]
        print(json.dumps({"folder": str(done.folder), "members": entries, "facts": asdict(done.facts)}))
        return
    print(f"{done.folder}: {len(members)} networks, {_share(sizes.disk, sizes.disk_separate)}")
    print(f"  weights in memory: {_share(sizes.memory, sizes.memory_separate)}")
    for name, member in members.items():
        switch = done.facts.switches[name]
        accuracy = f"test {member.test_in_words} ({member.test_images} images)"
        first, again, anew = map(milliseconds, (switch.first, switch.again, switch.anew))
        latency = f"{milliseconds(member.known_ms)} {'in PyTorch' if member.latency_ms else f'on {o.device}'}"
        print(f"  {name}: {in_pixels(member.arch.resolution)}, {accuracy}, {latency}")
        print(f"    after another network: first time {first}, later {again}; a separate export, loaded from disk: {anew}")


def _share(own: int, separate: int) -> str:
    return f"{memory(own)}, {percent(own / separate, 0)} of the {memory(separate)} of separate exports"


def classify_command(o: ClassifyOptions, as_json: bool) -> None:
    """Classify photographs with an exported network."""
    from ..pipeline.classify import classify

    def show(result: Any) -> None:
        photo = str(result.photo).replace("\n", "\\n").replace("\r", "\\r")  # one line per photograph
        if result.error is not None:
            tell(f"{photo}: {result.error}")
        elif not as_json:
            classes = ", ".join(f"{name} {percent(share)}" for name, share in result.classes)
            print(f"{photo}: {classes or 'no label'}", flush=True)

    found = classify(o, progress=Progress(say=tell, result=show))
    if as_json:
        print(json.dumps([_photo_record(result) for result in found]))
    if wrong := sum(result.error is not None for result in found):
        others = "; the others are classified" if wrong < len(found) else ""
        raise DataError(f"{wrong} of {len(found)} photographs cannot be read{others}")


def _photo_record(result: Any) -> dict[str, Any]:
    record = {"photo": str(result.photo), "format": result.format}
    if result.error is not None:
        return {**record, "error": result.error}
    classes = [{"name": name, "probability": share} for name, share in result.classes]
    for entry, threshold in zip(classes, result.thresholds, strict=False):
        entry["threshold"] = threshold
    return {**record, "classes": classes}


def status_command(as_json: bool, *, folder: Annotated[Path, replace(RUN, opened=False)]) -> None:
    """Show what a run holds and lacks, and what comes next."""
    from ..pipeline.status import status

    found = status(folder)
    if as_json:
        print(json.dumps({**asdict(found), "folder": str(found.folder)}))
        return
    for part in found.parts:
        print(f"{part.state:<10}  {part.name:<13}  {part.text}")
    if found.next:
        print("next:")
    for command in found.next:
        print(f"  {command}")


def compare_command(o: CompareOptions, as_json: bool) -> None:
    """Fine-tune fixed networks, and tell who wins at each budget."""
    from ..pipeline.comparison.compare import compare

    with showing() as progress:
        found = compare(o, progress=progress)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    for line in _lines(found):
        print(line)


def _lines(found: Any) -> list[str]:
    """The comparison for people."""
    from ..pipeline.comparison.versus import summary

    images, uneven = found.fixed[0].images, found.metric == "top1" and found.uneven > UNEVEN
    lines = [f"measured on {images:,} test images, and on {found.hardware} ({found.device}), in turns:"]
    for one in sorted((*found.fixed, *found.ours), key=lambda one: one.ms):
        low, high = one.between
        costs = f"{milliseconds(one.ms)}, {amount(one.macs)} MACs, {amount(one.params)} parameters"
        trained = "" if one.ours else f"; fixed, {one.epochs:.3g} epochs in {duration(one.seconds)}"
        shown = f"{METRICS[found.metric]} {percent(one.score(found.metric))} ({100 * low:.1f} to {100 * high:.1f})"
        if found.metric != "top1":
            shown += f", top-1 {percent(one.test)}"
        elif uneven and one.balanced is not None:
            shown += f", balanced accuracy {percent(one.balanced)}"
        lines.append(f"  {one.name} ({in_pixels(one.resolution)}): test {shown}, {costs}{trained}")
    if uneven:
        lines.append(f"one class has {found.uneven:.3g} times as many test images as another: winners are decided by top-1")
    lines.append("within each budget, ours against the fixed network that is best on held-out images:")
    lines += [f"  {verdict_line(v, found)}" for v in found.verdicts]
    lines.append(summary(found))
    lines.append("time for networks for several devices, each with a budget of its own:")
    lines += [f"  {plural(k, 'device')}: ours {duration(ours)}, fixed {duration(fixed)}" for k, ours, fixed in found.costs.rows()]
    least = found.costs.break_even
    lines.append("ours always takes longer" if least is None else f"from {plural(least, 'device')} on, ours takes no longer")
    lines += [f"note: {note}" for note in found.notes]
    return lines


def verdict_line(v: Any, found: Any) -> str:
    """One budget in words."""
    test = {one.name: percent(one.score(found.metric)) for one in (*found.fixed, *found.ours)}
    of = f" (of {', '.join(v.of)})" if v.of else ""
    ours = "ours: none" if v.ours is None else f"{v.ours} {test[v.ours]}"
    fixed = "fixed: none" if v.fixed is None else f"{v.fixed} {test[v.fixed]}"
    if v.difference is None:
        who = {"ours": "ours, as nothing fixed keeps it", "fixed": "fixed, as nothing of ours keeps it", "none": "nobody keeps it"}[
            v.winner
        ]
        return f"{v.budget}{of}: {ours}, {fixed}: {who}"
    by = f"{100 * v.difference:+.1f} points ({100 * v.low:+.1f} to {100 * v.high:+.1f})"
    if v.over:
        return f"{v.budget}{of}: {ours}, {fixed}, {by}: {v.winner}, as ours took longer than the budget when timed again"
    return f"{v.budget}{of}: {ours}, {fixed}: {v.winner}, {by}{'' if v.certain else ', within chance'}"
