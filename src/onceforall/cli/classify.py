"""`ofa classify`."""

import json
from typing import Any

from ..errors import DataError
from ..options.choosing import ClassifyOptions
from ..readable import percent
from .options import tell

__all__ = ["classify"]


def classify(o: ClassifyOptions, as_json: bool) -> None:
    """Tell what photographs show, by an exported network."""
    from ..pipeline.classify import classify as call

    def show(result: Any) -> None:
        if result.error is not None:
            tell(f"{result.photo}: {result.error}")
        elif not as_json:
            print(f"{result.photo}: {', '.join(f'{name} {percent(share)}' for name, share in result.classes)}", flush=True)

    found = call(o, on_result=show, on_note=tell)
    if as_json:
        print(json.dumps([_record(result) for result in found]))
    if wrong := sum(result.error is not None for result in found):
        raise DataError(f"{wrong} of {len(found)} photographs cannot be read; the others are classified")


def _record(result: Any) -> dict[str, Any]:
    record = {"photo": str(result.photo), "format": result.format}
    if result.error is not None:
        return {**record, "error": result.error}
    return {**record, "classes": [{"name": name, "probability": share} for name, share in result.classes]}
