"""The commands that measure some accuracies and predict all others."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from ..common.advice import ofa
from ..common.files import write_text
from ..common.progress import Progress
from ..common.readable import kendall_text, percent, plural
from ..options.declare import Flag
from ..options.measuring import (
    ComparePredictorsOptions,
    FitPredictorOptions,
    MeasureAccuracyOptions,
    NextSubnetsOptions,
    PredictOptions,
)
from ..options.shared import RUN
from ..scores import METRICS
from .views import counting, tell


def predict_command(o: PredictOptions, as_json: bool) -> None:
    """Measure some sub-networks, to predict accuracies of all.

    This is about networks; to classify photographs, use ofa classify.
    """
    from ..pipeline.accuracies.predict import predict

    with counting("measuring") as progress:
        found = predict(o, progress=progress)
    _tell_prediction(found, o.folder, as_json)


def measure_accuracy_command(o: MeasureAccuracyOptions, as_json: bool) -> None:
    """Measure many sub-networks for the cost of a few."""
    from ..pipeline import Run
    from ..pipeline.accuracies.measure_accuracy import measure_accuracy

    with counting("measuring") as progress:
        rows = measure_accuracy(o, progress=progress)
    if as_json:
        print(json.dumps([{**asdict(row), "arch": json.loads(row.arch.to_json())} for row in rows]))
        return
    measured = [row for row in rows if not row.interpolated]
    scores, metric = [row.value for row in measured], METRICS[Run.open(o.folder).metric]
    between = f", {len(rows) - len(measured)} interpolated between them" if o.every is not None else ""
    print(f"{plural(len(measured), 'sub-network')} on {measured[0].images} held-out images{between}: {o.folder / 'accuracy'}")
    ends, seconds = f"{percent(min(scores))} to {percent(max(scores))}", sum(row.seconds for row in measured)
    print(f"{metric} {ends}, {seconds:.0f} s of computation in all")


def fit_command(o: FitPredictorOptions, as_json: bool) -> None:
    """Fit the predictor to all measured sub-networks."""
    from ..pipeline.accuracies.predictor import fit_predictor

    _tell_prediction(fit_predictor(o), o.folder, as_json)


def compare_predictors_command(o: ComparePredictorsOptions, as_json: bool) -> None:
    """Compare kinds of predictors on left-out networks."""
    from ..pipeline.accuracies.predictor import compare_predictors

    told = False

    def line(r: Any) -> None:
        nonlocal told
        if not told:
            print("fitted  kind             RMSE    tau  90 % bars")
        told, e, kind = True, r.errors, f"{r.kind}*" if r.chosen else r.kind
        bars = percent(e.coverage90, 0)
        print(f"{r.samples:>6}  {kind:13} {percent(e.rmse, 2):>8}  {e.kendall_tau:.3f}  {bars:>8}", flush=True)

    found = compare_predictors(o, progress=Progress(say=tell) if as_json else Progress(say=tell, result=line))
    if as_json:
        print(json.dumps([asdict(r) for r in found]))
        return
    print(f"on {found[0].errors.n} others; * chosen by cross-validation on the fitted ones")


def show_command(as_json: bool, *, folder: Annotated[Path, RUN]) -> None:
    """Show the predictor and its errors."""
    from ..pipeline.accuracies.predictor import show_predictor

    found = show_predictor(folder)
    if as_json:
        print(json.dumps(found))
        return
    proof = "searches can prove optima" if found["provable"] else "searches cannot prove optima"
    print(f"{found['kind']}, fitted on {found['fitted_on'] or 'unknown'} sub-networks of weights {found['weights'][:12]}; {proof}")
    for kind, rmse in found["cross_validated_rmse"].items():
        print(f"  {kind}: cross-validated RMSE {percent(rmse, 2)}")
    if e := found["errors"]:
        bars = f"90 % error bars cover {percent(e['coverage90'], 0)}"
        print(f"on {e['n']} others: RMSE {percent(e['rmse'], 2)}, Kendall tau {e['kendall_tau']:.3f}, {bars}")
    print(f"standard deviation of a measurement: {percent(found['calibration']['noise'], 2)}")


def next_command(
    o: NextSubnetsOptions,
    as_json: bool,
    *,
    out: Annotated[Path | None, Flag("For ofa accuracy measure --archs, e.g. next.jsonl.", "FILE")] = None,
) -> None:
    """List sub-networks worth measuring next."""
    from ..pipeline.accuracies.predictor import next_subnets

    archs = next_subnets(o)
    text = "".join(f"{arch.to_json()}\n" for arch in archs)
    if as_json:
        print(json.dumps([json.loads(arch.to_json()) for arch in archs]))
    elif out is None:
        print(text, end="")
    if out is None:
        return
    write_text(out, text)
    tell(f"{out}; next: {ofa('accuracy', 'measure', o.folder, '--archs', out)} && {ofa('accuracy', 'fit', o.folder)}")


def _tell_prediction(found: Any, folder: Path, as_json: bool) -> None:
    """Print a `pipeline.predictor.Prediction` and its errors."""
    from ..pipeline import Run
    from ..pipeline.accuracies.predictor import doubt

    e, kind, fitted = found.errors, found.predictor.kind, len(found.fitted)
    if as_json:
        print(json.dumps({**asdict(e), "ceiling": found.ceiling, "fitted_on": fitted, "kind": kind}))
        return
    tau = kendall_text(e.kendall_tau, found.ceiling)
    print(f"fitted on {fitted} sub-networks ({kind}); on {e.n} others:")
    print(f"RMSE {percent(e.rmse, 2)}, Kendall tau {tau}, 90 % error bars cover {percent(e.coverage90, 0)}")
    if doubtful := doubt(Run.open(folder)):
        tell(doubtful)
