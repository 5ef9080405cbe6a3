"""`ofa status`."""

import json
from dataclasses import asdict

from ..options.choosing import StatusOptions

__all__ = ["status"]


def status(o: StatusOptions, as_json: bool) -> None:
    """Tell what a run holds, lacks, and what comes next."""
    from ..pipeline.status import status as call

    found = call(o.folder)
    if as_json:
        print(json.dumps({**asdict(found), "folder": str(found.folder)}))
        return
    for part in found.parts:
        print(f"{part.state:<10}  {part.name:<13}  {part.text}")
    if found.next:
        print("next:")
    for command in found.next:
        print(f"  {command}")
