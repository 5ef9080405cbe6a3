"""The commands of the main path: train, evaluate, predict, specialise, report, demo."""

import json
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from ..advice import ofa
from ..errors import ValueTextError
from ..options.choosing import DemoOptions, ReportOptions, SpecialiseOptions
from ..options.limits import Budget
from ..options.measuring import EvaluateOptions, PredictOptions
from ..options.training import TrainOptions
from ..readable import milliseconds, percent
from .options import run_record, stderr, stopping, tell, tell_prediction
from .views import Counter, TrainView

__all__ = ["demo", "evaluate", "predict", "report", "specialise", "train"]


def train(o: TrainOptions, as_json: bool) -> None:
    """Train an elastic network.

    For --from see docs/own-networks.md; FILE.py:FUNCTION runs its code.
    """
    from ..pipeline.train import train as call

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        run = call(o, on_event=view, should_stop=should_stop)
    if as_json:
        print(json.dumps(run_record(run)))
        return
    print(f"trained: {run.folder}; next: {', '.join(ofa(name, run.folder) for name in ('evaluate', 'profile', 'predict'))}")


def evaluate(o: EvaluateOptions, as_json: bool) -> None:
    """Measure the accuracy of sub-networks."""
    from ..pipeline import Run
    from ..pipeline.evaluate import evaluate as call

    results = call(o, on_result=lambda r: tell(f"{r.name} done"), on_note=tell)
    if as_json:
        print(
            json.dumps(
                [{"name": r.name, "split": o.split, **asdict(r.accuracy), "arch": json.loads(r.arch.to_json())} for r in results]
            )
        )
        return
    many = Run.open(o.folder).num_classes > 5  # else top-5 says nothing
    for r in results:
        top5 = f", top-5 {percent(r.accuracy.top5, 2)}" if many else ""
        top = f"top-1 {percent(r.accuracy.top1, 2)}{top5}, loss {r.accuracy.loss:.3f}"
        print(f"{r.name}: {r.arch.resolution} px, depths {r.arch.depths}: {top} ({r.accuracy.images} {o.split} images)")


def predict(o: PredictOptions, as_json: bool) -> None:
    """Measure some sub-networks, to predict accuracies of all.

    This is about networks, not photographs: ofa classify tells what those show.
    """
    from ..pipeline.predict import predict as call

    with Counter(stderr(), "measuring") as counter:
        found = call(o, on_progress=counter)
    tell_prediction(found, as_json)


def specialise(
    o: SpecialiseOptions,
    as_json: bool,
    *,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="The most accurate network, whatever it costs.")] = False,
) -> None:
    """Export the best network for each budget, with proof."""
    from ..errors import VerificationError
    from ..pipeline.limits import suggested_limits

    if o.budgets and no_limit:
        raise ValueTextError("--no-limit and limits exclude each other: leave one out")
    if not (o.budgets or no_limit):
        raise ValueTextError(
            "without a limit this would export the most accurate network, whatever it costs: give one, such as "
            f"{suggested_limits(o.folder, o.devices[0])}, or --no-limit if that is what you want"
        )
    from ..pipeline.specialise import specialise as call

    def told(result: Any) -> None:
        if not as_json:
            print(_line(result), flush=True)
        for reading in result.readings:
            if reading.warning is not None:
                tell(f"warning: {reading.warning}")

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        options = replace(o, budgets=o.budgets or [Budget()])
        results = call(options, on_step=view.step, on_result=told, on_event=view, should_stop=should_stop)
    if as_json:
        print(json.dumps([_record(r) for r in results]))
    if lost := [f"{r.folder} is without {format}: {why}" for r in results for format, why in r.left_out.items()]:
        raise VerificationError("; ".join(lost))


def report(o: ReportOptions, as_json: bool) -> None:
    """Write a self-contained HTML page about runs."""
    from ..pipeline.report import report as call

    page = call(*o.folders, out=o.out)
    print(json.dumps({"page": str(page)}) if as_json else page)


def demo(o: DemoOptions, as_json: bool) -> None:
    """Do all of the above on handwritten digits, in minutes."""
    from ..pipeline.demo import demo as call
    from .demo_view import demo_lines

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        done = call(o.out, seed=o.seed, on_event=view, on_step=view.step, on_progress=view.count, should_stop=should_stop)
    if as_json:
        ends = [{"name": end.name, **asdict(end.accuracy)} for end in done.ends]
        networks, gains = [_record(r) for r in done.networks], [asdict(gain) for gain in done.gains]
        print(json.dumps({"ends": ends, "networks": networks, "gains": gains, "page": str(done.page)}))
        return
    for line in demo_lines(done):
        print(line)


def _record(r: Any) -> dict[str, Any]:
    return {
        "folder": str(r.folder),
        "test": asdict(r.test),
        "latency": asdict(r.timing),
        "files": [asdict(file) for file in r.files],
        "left_out": dict(r.left_out),
        "readers": [asdict(reading) for reading in r.readings],
        "finetuned": None if r.finetuned is None else asdict(r.finetuned),
        "pushed": r.pushed,
    }


def _line(r: Any) -> str:
    share = "" if r.budget.latency_ms is None else f" = {percent(r.timing.ms / r.budget.latency_ms, 0)} of the budget"
    if r.budget.latency_ms is not None and r.timing.ms > r.budget.latency_ms:
        share += " (over it: if that matters, allow less, or try again when the machine is quiet)"
    tuned = "" if r.finetuned is None else f"; {r.finetuned}"
    return f"{r.folder}: test top-1 {percent(r.test.top1)} ({r.test.images} images), {milliseconds(r.timing.ms)}{share}{tuned}"
