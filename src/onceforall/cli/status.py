"""`ofa status`."""

import json
from dataclasses import asdict

from .options import Json, RunFolder

__all__ = ["status"]


def status(run: RunFolder, as_json: Json = False) -> None:
    """Tell what a run holds, lacks, and what comes next."""
    from ..pipeline.status import status as call

    found = call(run)
    if as_json:
        print(json.dumps({**asdict(found), "folder": str(found.folder)}))
        return
    for part in found.parts:
        print(f"{part.state:<10}  {part.name:<13}  {part.text}")
    if found.next:
        print("next:")
    for command in found.next:
        print(f"  {command}")
