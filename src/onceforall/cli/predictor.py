"""The commands about the accuracy predictor; `ofa predict` measures and fits in one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..advice import ofa
from ..files import write_text
from ..options.choosing import RunOptions
from ..options.measuring import ComparePredictorsOptions, FitPredictorOptions, NextSubnetsOptions
from ..readable import percent
from .options import tell, tell_prediction

__all__ = ["compare", "fit", "following", "show"]


def fit(o: FitPredictorOptions, as_json: bool) -> None:
    """Fit to all sub-networks measured, choosing the kind."""
    from ..pipeline.predictor import fit_predictor as call

    tell_prediction(call(o), as_json)


def compare(o: ComparePredictorsOptions, as_json: bool) -> None:
    """Compare kinds of models by what they were not fitted to."""
    from ..pipeline.predictor import compare_predictors as call

    def line(r: Any) -> None:
        e, kind = r.errors, f"{r.kind}*" if r.chosen else r.kind
        bars = percent(e.coverage90, 0)
        print(f"{r.samples:>6}  {kind:13} {percent(e.rmse, 2):>8}  {e.kendall_tau:.3f}  {bars:>8}", flush=True)

    if not as_json:
        print("fitted  kind             RMSE    tau  90 % bars")
    found = call(o, on_result=(lambda r: None) if as_json else line)
    if as_json:
        print(json.dumps([asdict(r) for r in found]))
        return
    print(f"on {found[0].errors.n} others; * chosen by cross-validation on what was fitted")


def show(o: RunOptions, as_json: bool) -> None:
    """Tell what the predictor is and how wrong it is."""
    from ..pipeline.predictor import show_predictor as call

    found = call(o.folder)
    if as_json:
        print(json.dumps(found))
        return
    proof = "searches can prove optima" if found["provable"] else "searches cannot prove optima"
    print(f"{found['kind']}, fitted on {found['fitted_on'] or 'unknown'} sub-networks of weights {found['weights'][:12]}; {proof}")
    for kind, rmse in found["cross_validated_rmse"].items():
        print(f"  {kind}: cross-validated RMSE {percent(rmse, 2)}")
    if e := found["errors"]:
        bars = f"90 % error bars hold {percent(e['coverage90'], 0)}"
        print(f"on {e['n']} others: RMSE {percent(e['rmse'], 2)}, Kendall tau {e['kendall_tau']:.3f}, {bars}")
    print(f"standard deviation of a measurement: {percent(found['calibration']['noise'], 2)}")


def following(
    o: NextSubnetsOptions,
    as_json: bool,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="For ofa measure-accuracy --archs.")] = None,
) -> None:
    """List sub-networks worth measuring next."""
    from ..pipeline.predictor import next_subnets as call

    archs = call(o)
    text = "".join(f"{arch.to_json()}\n" for arch in archs)
    if as_json:
        print(json.dumps([json.loads(arch.to_json()) for arch in archs]))
    elif out is None:
        print(text, end="")
    if out is None:
        return
    write_text(out, text)
    tell(f"{out}; next: {ofa('measure-accuracy', o.folder, '--archs', out)} && {ofa('predictor', 'fit', o.folder)}")
