"""The commands for weights of the Once-for-All authors: in, and out again."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..advice import ofa
from .completion import one_of
from .options import CacheGB, Data, Holdout, Json, Limit, MaxPixels, RunFolder, Seed, run_record, stderr, tell
from .values import amount
from .views import TrainView

__all__ = ["export_original", "import_original"]


def import_original(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint of the Once-for-All authors, .pth.")],
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of its network, e.g. ofa_mbv3_d234_e346_k357_w1_0.", autocompletion=one_of("original")),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory to make.")],
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Images, as in ofa train; needed to evaluate.")] = None,
    predictor: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracy predictor of the authors.")] = None,
    holdout: Holdout = 0.1,
    limit: Limit = None,
    max_pixels: MaxPixels = None,
    cache_gb: CacheGB = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Take over published weights instead of training."""
    from ..pipeline.imports import import_original as call

    with TrainView(stderr()) as view:
        run = call(
            path,
            name=name,
            out=out,
            data=data,
            predictor=predictor,
            holdout=holdout,
            limit=limit,
            max_pixels=None if max_pixels is None else int(amount(max_pixels)),
            cache_gb=cache_gb,
            seed=seed,
            on_event=view,
        )
    if as_json:
        print(json.dumps(run_record(run)))
        return
    commands = ["profile"] if data is None else ["evaluate", "profile", "predict" if predictor is None else "search"]
    steps = ", ".join(ofa(command, run.folder) for command in commands)
    print(f"imported{' without images' if data is None else ''}: {run.folder}; next: {steps}")


def export_original(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of RUN/original.pth; a file there is not overwritten.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write the weights for the Once-for-All authors' code."""
    from ..pipeline.export_original import export_original as call

    done = call(run, out=out, data=data)
    if done.images is not None:
        tell(f"BatchNorm statistics measured on {done.images:,} training images; they are right for the largest network only")
    print(json.dumps({"path": str(done.path), "images": done.images}) if as_json else done.path)
