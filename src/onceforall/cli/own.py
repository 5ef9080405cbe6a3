"""`ofa elastic`: what of a network would be elastic, without data."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from .options import Json, Resolutions, Seed, Weights, tell
from .values import with_resolutions

__all__ = ["elastic"]


def elastic(
    source: Annotated[str, typer.Argument(metavar="NET", help="timm:NAME, torchvision:NAME, hf:USER/REPO, FILE.py:FUNCTION.")],
    weights: Weights = None,
    resolutions: Resolutions = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="ARGS",
            help="Its choices: resolutions, widths, heads, depths, kernels, stage_widths, as widths=0.5/0.75/1,depths=1/2/3.",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Tell what is elastic in a network of yours.

    No weights are downloaded; FILE.py:FUNCTION is called, so that its code runs.
    """
    from ..pipeline.elastic import elastic as call

    found = call(
        source,
        weights=weights,
        space=with_resolutions(space, resolutions),
        seed=seed,
        on_event=lambda event: tell(f"note: {event['text']}") if event["event"] == "note" else None,
    )
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(found.summary)
