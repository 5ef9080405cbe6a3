"""`ofa compare`."""

import json
from typing import Any

from ..common.readable import amount, duration, milliseconds, percent, wilson
from ..options.choosing import CompareOptions
from ..resolutions import in_pixels
from ..scores import UNEVEN
from .views import TrainView, stderr, stopping


def compare(o: CompareOptions, as_json: bool) -> None:
    """Fine-tune fixed networks, and tell who wins at each budget."""
    from ..pipeline.comparison.compare import compare as call

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        found = call(o, on_step=view.step, on_event=view, should_stop=should_stop)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    for line in _lines(found):
        print(line)


def _lines(found: Any) -> list[str]:
    """The comparison for people."""
    from ..pipeline.comparison.versus import summary

    images = found.fixed[0].images
    lines = [f"measured on {images:,} test images, and on {found.hardware} ({found.device}), in turns:"]
    for one in sorted((*found.fixed, *found.ours), key=lambda one: one.ms):
        low, high = wilson(one.test, one.images)
        costs = f"{milliseconds(one.ms)}, {amount(one.macs)} MACs, {amount(one.params)} parameters"
        trained = "" if one.ours else f"; fixed, {one.epochs:.3g} epochs in {duration(one.seconds)}"
        top1 = f"{percent(one.test)} ({100 * low:.1f} to {100 * high:.1f})"
        if found.uneven > UNEVEN and one.balanced is not None:
            top1 += f", mean of the classes {percent(one.balanced)}"
        lines.append(f"  {one.name} ({in_pixels(one.resolution)}): test top-1 {top1}, {costs}{trained}")
    if found.uneven > UNEVEN:
        lines.append(f"one class has {found.uneven:.3g} times as many test images as another: see the mean of the classes")
    lines.append("within each budget, ours against the fixed network that is best on held-out images:")
    lines += [f"  {verdict_line(v, found)}" for v in found.verdicts]
    lines.append(summary(found.verdicts))
    lines.append("seconds for networks for several devices, each with a budget of its own:")
    lines += [f"  {k}: ours {duration(ours)}, fixed {duration(fixed)}" for k, ours, fixed in found.costs.rows()]
    least = found.costs.break_even
    lines.append("ours never takes less" if least is None else f"ours takes no longer from {least} on")
    lines += [f"note: {note}" for note in found.notes]
    return lines


def verdict_line(v: Any, found: Any) -> str:
    """One budget in words."""
    test = {one.name: percent(one.test) for one in (*found.fixed, *found.ours)}
    of = f" (of {', '.join(v.of)})" if v.of else ""
    ours = "ours: none" if v.ours is None else f"{v.ours} {test[v.ours]}"
    fixed = "fixed: none" if v.fixed is None else f"{v.fixed} {test[v.fixed]}"
    if v.difference is None:
        who = {"ours": "ours, as nothing fixed keeps it", "fixed": "fixed, as nothing of ours keeps it", "none": "nobody keeps it"}[
            v.winner
        ]
        return f"{v.budget}{of}: {ours}, {fixed}: {who}"
    by = f"{100 * v.difference:+.1f} points ({100 * v.low:+.1f} to {100 * v.high:+.1f})"
    doubt = "" if v.certain else ", within chance"
    over = ", but ours took longer than the budget when timed again" if v.over else ""
    return f"{v.budget}{of}: {ours}, {fixed}: {v.winner}, {by}{doubt}{over}"
