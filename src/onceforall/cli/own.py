"""`ofa elastic`: what of a network would be elastic, without data."""

import json
from dataclasses import asdict

from ..options.training import ElasticOptions
from .options import tell

__all__ = ["elastic"]


def elastic(o: ElasticOptions, as_json: bool) -> None:
    """Tell what is elastic in a network of yours.

    No weights are downloaded; FILE.py:FUNCTION is called, so that its code runs.
    """
    from ..pipeline.elastic import elastic as call

    found = call(o, on_event=lambda event: tell(f"note: {event['text']}") if event["event"] == "note" else None)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(found.summary)
