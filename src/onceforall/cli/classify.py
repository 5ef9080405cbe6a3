"""`ofa classify`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from ..readable import percent
from .completion import one_of
from .options import Json, tell

__all__ = ["classify"]


def classify(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder that ofa specialise or ofa bundle made.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Image files, or folders of them.")],
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the file to run; onnx by default.", autocompletion=one_of("format"))
    ] = None,
    network: Annotated[str | None, typer.Option(metavar="NAME", help="Of a bundle: one of its networks.")] = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="Classes for each photograph; 5 by default.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Tell what photographs show, by an exported network."""
    from ..pipeline.classify import classify as call

    def show(result: Any) -> None:
        if result.error is not None:
            tell(f"{result.photo}: {result.error}")
        elif not as_json:
            print(f"{result.photo}: {', '.join(f'{name} {percent(share)}' for name, share in result.classes)}", flush=True)

    found = call(export, photos, format=format, network=network, top=top, on_result=show, on_note=tell)
    if as_json:
        print(json.dumps([_record(result) for result in found]))
    if wrong := sum(result.error is not None for result in found):
        raise DataError(f"{wrong} of {len(found)} photographs cannot be read; the others are classified")


def _record(result: Any) -> dict[str, Any]:
    record = {"photo": str(result.photo), "format": result.format}
    if result.error is not None:
        return {**record, "error": result.error}
    return {**record, "classes": [{"name": name, "probability": share} for name, share in result.classes]}
