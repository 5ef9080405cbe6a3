"""The command that measures accuracy data."""

import json
from dataclasses import asdict

from ..options.measuring import MeasureAccuracyOptions
from ..readable import percent
from .options import stderr
from .views import Counter

__all__ = ["measure_accuracy"]


def measure_accuracy(o: MeasureAccuracyOptions, as_json: bool) -> None:
    """Measure many sub-networks at the price of few."""
    from ..pipeline.measure_accuracy import measure_accuracy as call

    with Counter(stderr(), "measuring") as counter:
        rows = call(o, on_progress=counter)
    if as_json:
        print(json.dumps([{**asdict(row), "arch": json.loads(row.arch.to_json())} for row in rows]))
        return
    measured = [row for row in rows if not row.interpolated]
    top1 = [row.top1 for row in measured]
    between = f", {len(rows) - len(measured)} interpolated between them" if o.every is not None else ""
    print(f"{len(measured)} sub-networks on {measured[0].images} held-out images{between}: {o.folder / 'accuracy'}")
    print(f"top-1 {percent(min(top1))} to {percent(max(top1))}, {sum(row.seconds for row in measured):.0f} s of computing in all")
