"""Plans against independent counts: torch's own operation counter, the static network, and a step-by-step memory simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from onceforall import Arch, Plan, Space
from onceforall.nn.static import build
from onceforall.ops import Activation, Add, Conv, Dropout, Flatten, GlobalPool, Linear, Norm, Op, Pool, Scale
from onceforall.plan import Segment
from small_spaces import SPACES

IN_PLACE = Norm | Activation | Flatten | Dropout


def some_archs(space: Space, n: int = 1) -> list[Arch]:
    rng = np.random.default_rng(0)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(n))]


def test_macs_and_parameters_are_those_that_torch_counts(space: Space) -> None:
    for arch in some_archs(space):
        plan = space.lower(arch, 11)
        with torch.device("meta"):
            network = build(plan).eval()
            counter = FlopCounterMode(display=False)
            with counter:
                out = network(torch.empty(1, *plan.input_shape))
        assert counter.get_total_flops() == 2 * plan.macs
        assert sum(p.numel() for p in network.parameters()) == plan.params
        assert out.shape[1:] == plan.output_shape == (11,)


def test_totals_are_sums_over_segments(space: Space) -> None:
    plan = space.lower(space.largest())
    assert plan.macs == sum(op.macs for op in plan.ops) == sum(plan.piece(s.name).macs for s in plan.segments)
    assert plan.params == sum(op.params for op in plan.ops) == sum(plan.piece(s.name).params for s in plan.segments)


def test_a_piece_that_is_not_there() -> None:
    space = SPACES["single"]
    with pytest.raises(KeyError, match=r"stages\.9\.0"):
        space.lower(space.largest()).piece("stages.9.0")


@given(st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__), st.integers(0, 2**32))
def test_plans_are_well_formed(space: Space, seed: int) -> None:
    plan = space.lower(space.sample(np.random.default_rng(seed)), 7)
    assert len({segment.name for segment in plan.segments}) == len(plan.segments)
    before = plan.input_shape
    for segment in plan.segments:
        assert segment.in_shape == before
        shapes = {"in": segment.in_shape}
        for op in segment.ops:
            assert op.name not in shapes
            sources = [shapes[name] for name in op.inputs]  # reads the input or an earlier operation only
            assert op.shape == _shape_after(op, sources)
            shapes[op.name] = op.shape
        before = segment.out_shape


def _shape_after(op: Op, sources: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The output shape as the reference note gives it: int((f − 1) / stride + 1)."""
    first = sources[0]
    match op:
        case Conv():
            assert first[0] == op.in_channels
            assert op.in_channels % op.groups == 0
            assert op.shape[0] % op.groups == 0
            return (op.shape[0], *(int((f - 1) / op.stride + 1) for f in first[1:]))
        case Pool():
            return (first[0], *(int((f - 1) / op.stride + 1) for f in first[1:]))
        case Linear():
            assert first == (op.in_features,)
            return op.shape
        case GlobalPool():
            return (first[0], 1, 1)
        case Flatten():
            assert first[1:] == (1, 1)
            return first[:1]
        case Add():
            assert sources[0] == sources[1]
        case Scale():
            assert sources[1] == (first[0], 1, 1)
    return first


@given(st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__), st.integers(0, 2**32))
@settings(max_examples=20)
def test_peak_memory_against_a_simulation(space: Space, seed: int) -> None:
    plan = space.lower(space.sample(np.random.default_rng(seed)), 7)
    assert plan.peak_memory_bytes == 4 * max(simulated_peak(segment) for segment in plan.segments)


def simulated_peak(segment: Segment) -> int:
    """Run the segment with reference-counted buffers, as an interpreter would."""
    waiting = {"in": 0} | {op.name: 0 for op in segment.ops}
    for op in segment.ops:
        for source in op.inputs:
            waiting[source] += 1
    memory = {"in": int(np.prod(segment.in_shape))}
    peak = memory["in"]
    for op in segment.ops:
        for source in op.inputs:
            waiting[source] -= 1
        first = op.inputs[0]
        reuse = isinstance(op, IN_PLACE) and waiting[first] == 0
        if reuse:
            memory[op.name] = memory.pop(first)
        else:
            memory[op.name] = int(np.prod(op.shape))
        peak = max(peak, sum(memory.values()))
        for source in op.inputs:
            if waiting[source] == 0:
                memory.pop(source, None)
    assert list(memory) == [segment.ops[-1].name], "only the result is left"
    return peak


def test_peak_memory_by_hand() -> None:
    segment = Segment(
        "block",
        (4, 8, 8),
        (
            Conv("expand", ("in",), (16, 8, 8), 4),
            Norm("norm", ("expand",), (16, 8, 8)),
            Activation("act", ("norm",), (16, 8, 8), "relu"),
            Conv("depthwise", ("act",), (16, 4, 4), 16, 3, 2, 16),
            Conv("project", ("depthwise",), (4, 4, 4), 16),
        ),
    )
    assert segment.peak_activations == 16 * 64 + 16 * 16  # the expanded tensor and its depthwise output; "in" is gone
    tail = (Conv("project", ("act",), (4, 8, 8), 16), Add("add", ("in", "project"), (4, 8, 8)))
    kept = Segment("block", (4, 8, 8), (*segment.ops[:3], *tail))
    assert kept.peak_activations == (4 + 16 + 4) * 64  # "in" stays for the shortcut
    assert Plan((segment, segment)).peak_memory_bytes == 4 * segment.peak_activations


def test_table_adds_up(space: Space) -> None:
    plan = space.lower(space.largest(), 10)
    head, *lines, total = plan.table().splitlines()
    assert head.split() == ["segment", "operations", "output", "MACs", "parameters"]
    assert [line.split()[0] for line in lines] == [segment.name for segment in plan.segments]
    assert [int(word.replace(",", "")) for word in total.split()[-2:]] == [plan.macs, plan.params]
    assert sum(int(line.split()[-2].replace(",", "")) for line in lines) == plan.macs


def test_table_of_a_known_block() -> None:
    space = SPACES["default"]
    line = next(line for line in space.lower(space.largest(224)).table().splitlines() if line.startswith("stages.1.0"))
    assert line.split() == ["stages.1.0", "k7/s2", "mid", "144", "se", "40×28×28", "20,897,280", "28,632"]


def test_signatures_do_not_depend_on_the_place() -> None:
    space = SPACES["default"]
    second, third = space.lower(space.largest()).segments[3:5]
    assert second.name != third.name
    assert second.signature == third.signature
    assert len({second.signature, third.signature}) == 1
