"""What the report tells of `ofa compare`."""

from ..readable import duration
from ..report import ComparedFacts, RivalFacts, VerdictFacts
from .run import Run
from .versus import Rival, Verdict, stored_comparison, summary

__all__ = ["compared_facts"]


def compared_facts(run: Run) -> ComparedFacts | None:
    """What the last `ofa compare` of the run found; None if there was none.

    Raises:
        FileError: it is damaged.
    """
    found = stored_comparison(run)
    if found is None:
        return None
    return ComparedFacts(
        device=found.device,
        hardware=found.hardware,
        rivals=[_rival(one) for one in (*found.fixed, *found.ours)],
        verdicts=[_verdict(one) for one in found.verdicts],
        summary=summary(found.verdicts),
        costs=found.costs.rows(),
        break_even=found.costs.break_even,
        notes=found.notes,
    )


def _rival(one: Rival) -> RivalFacts:
    training = "" if one.seconds is None else f"{one.epochs:.3g} epochs in {duration(one.seconds)}, from {one.weights}"
    latency = (one.ms, one.ms_low, one.ms_high)
    return RivalFacts(one.name, one.ours, one.resolution, latency, one.macs, one.params, one.test, one.images, training)


def _verdict(one: Verdict) -> VerdictFacts:
    difference = None if one.difference is None or one.low is None or one.high is None else (one.difference, one.low, one.high)
    words = one.winner if one.certain or one.difference is None else f"{one.winner}, within chance"
    words += "; ours took longer than the budget when timed again" if one.over else ""
    return VerdictFacts(str(one.budget), one.of, one.ours, one.fixed, words, difference)
