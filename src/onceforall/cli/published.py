"""The commands for weights that were trained elsewhere: in, and out again to the Once-for-All authors' code."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..advice import ofa
from ..errors import ValueTextError
from .completion import one_of
from .options import (
    CacheGB,
    Data,
    Holdout,
    Json,
    Limit,
    MaxPixels,
    Resolutions,
    RunFolder,
    Seed,
    Weights,
    run_record,
    stderr,
    tell,
)
from .values import amount, with_resolutions
from .views import TrainView

__all__ = ["export_original", "import_original"]


def import_original(
    path: Annotated[str, typer.Argument(metavar="NET", help="timm:NAME, ofa:NAME, FILE.py:FUNCTION; a file of the authors.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory to make.")],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the authors' network, as ofa_resnet50.", autocompletion=one_of("original")),
    ] = None,
    weights: Weights = None,
    resolutions: Resolutions = None,
    space: Annotated[str | None, typer.Option(metavar="ARGS", help="Of a network of yours, as in ofa elastic.")] = None,
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Images, as in ofa train; needed to evaluate.")] = None,
    predictor: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracy predictor of the authors.")] = None,
    holdout: Holdout = 0.1,
    limit: Limit = None,
    max_pixels: MaxPixels = None,
    cache_gb: CacheGB = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Take over trained weights instead of training."""
    from ..models import FORM, is_source
    from ..pipeline.imports import import_original as call
    from ..pipeline.imports import import_own

    own = is_source(path)
    pixels = None if max_pixels is None else int(amount(max_pixels))
    images: dict[str, Any] = {"data": data, "holdout": holdout, "limit": limit, "max_pixels": pixels}
    images |= {"cache_gb": cache_gb, "seed": seed}
    choices = with_resolutions(space, resolutions)
    for option, value, wanted in (
        ("weights", weights, True),
        ("space", choices, True),
        ("name", name, False),
        ("predictor", predictor, False),
    ):
        if value is not None and own != wanted:
            raise ValueTextError(
                f"--{option} is for {'a network of yours' if wanted else 'files of the Once-for-All authors'}: leave it out"
            )
    if name is None and not own:
        raise ValueTextError(f"Missing option '--name': which of the authors' networks is {path} of? For any other, {FORM}")
    with TrainView(stderr()) as view:
        if own:
            run = import_own(path, out=out, weights=weights, space=choices, on_event=view, **images)
        else:
            run = call(Path(path), name=name, out=out, predictor=predictor, on_event=view, **images)
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
