"""The commands that import networks trained elsewhere, and export to the Once-for-All authors' code."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from ..common.advice import ofa
from ..common.progress import Progress
from ..errors import ValueTextError
from ..options.declare import Flag
from ..options.shared import MOVED, RUN
from ..options.training import ElasticOptions, ImportOptions
from .views import TrainView, run_record, stderr, tell


def import_command(o: ImportOptions, as_json: bool) -> None:
    """Import trained weights instead of training."""
    from ..models import FORM, is_source
    from ..pipeline.imports import import_original, import_own

    own = is_source(str(o.network))
    if not own and (o.name, o.weights, o.space) == (None, None, None):
        raise ValueTextError(f"Missing option '--name': which of the authors' networks is {o.network} of? For any other, {FORM}")
    with TrainView(stderr()) as view:
        run = (import_own if own else import_original)(o, progress=Progress(event=view))
    if as_json:
        print(json.dumps(run_record(run)))
        return
    commands = ["profile"] if o.data is None else ["evaluate", "profile", "predict" if o.predictor is None else "search"]
    steps = ", ".join(ofa(command, run.folder) for command in commands)
    print(f"imported{' without images' if o.data is None else ''}: {run.folder}; next: {steps}")


def export_original_command(
    as_json: bool,
    *,
    folder: Annotated[Path, RUN],
    out: Annotated[Path | None, Flag("Instead of RUN/original.pth, e.g. net.pth: a new file.", "FILE")] = None,
    data: Annotated[str | None, MOVED] = None,
) -> None:
    """Write the weights for the Once-for-All authors' code."""
    from ..pipeline.export_original import export_original

    done = export_original(folder, out=out, data=data)
    if done.images is not None:
        tell(f"BatchNorm statistics were measured on {done.images:,} training images: they are right for the largest network only")
    print(json.dumps({"path": str(done.path), "images": done.images}) if as_json else done.path)


def elastic_command(o: ElasticOptions, as_json: bool) -> None:
    """Show what is elastic in your network.

    No weights are downloaded; FILE.py:FUNCTION is called, so its code runs.
    """
    from ..pipeline.elastic import read_elastic

    def show(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            tell(f"note: {event['text']}")

    found = read_elastic(o, progress=Progress(event=show))
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(found.summary)
