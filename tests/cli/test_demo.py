"""`ofa demo`: the whole path on a smaller space than its own, and what a newcomer is told in the end."""

import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onceforall.calibrate import Accuracy
from onceforall.cli import run
from onceforall.cli.demo_view import demo_lines
from onceforall.errors import TrainingError
from onceforall.pipeline import PRESETS
from onceforall.pipeline import demo as call
from onceforall.pipeline.demo import Demo, Gain
from tiny_run import SPACE, SUBNETS


def test_demo(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PRESETS, "digits-demo", replace(PRESETS["digits-demo"], arguments=SPACE, epochs=3))
    kept: list[Demo] = []

    def keeping(*given: Any, **named: Any) -> Demo:
        kept.append(call(*given, **named))
        return kept[-1]

    module = import_module("onceforall.pipeline.demo")  # the package's name is the function
    monkeypatch.setattr(module, "demo", keeping)
    monkeypatch.setattr(module, "SUBNETS", SUBNETS)
    monkeypatch.setattr(module, "BUDGETS", module.BUDGETS[::2])
    command = ["demo", "--out", str(tmp_path / "run"), "--json"]
    for _ in range(3):  # the machine may be too busy to measure latency; the demo goes on where it stopped
        code = run(command)
        out, err = capfd.readouterr()
        if code == 0:
            break
    assert code == 0, err
    record = json.loads(out)
    assert [end["name"] for end in record["ends"]] == ["largest", "smallest"]
    assert len(record["networks"]) == 2
    assert len(record["gains"]) == 2  # step by step, and in all
    assert Path(record["page"]).exists()
    names = [line.partition(":")[0] for line in err.splitlines()]
    stages = ["train", "evaluate", "profile", "predict", "report"]
    assert [name for name in names if name in stages] == stages
    says_what_was_found(kept[-1])


def says_what_was_found(done: Demo) -> None:
    """As they are, and with other accuracies and times."""
    lines = demo_lines(done)
    for network in done.networks:
        (row,) = [line for line in lines if re.match(rf" +{network.budget.latency_ms:.3g}0* ms ", line)]
        assert f"  {100 * network.test.top1:.1f} % (" in row
        assert f"{network.arch.resolution} px" in row
    assert lines[-1] == f"report: {done.page}"
    steps = [(0.1, 215), (0.2, 323), (0.4, 327), (0.4, 327)]  # ms, and how many images are right: always the first ones
    changed = [
        replace(done.networks[0], test=Accuracy(n / 359, 1.0, 0.1, 359), latency=replace(done.networks[0].latency, ms=ms))
        for ms, n in steps
    ]
    right = [np.arange(359) < n for _, n in steps]
    told = demo_lines(replace(done, networks=changed, right=right))
    assert [line for line in told if "more than" in line] == [
        "0.100 ms more than 0.100 ms buy 30.1 points of accuracy (95 % interval 25.2 to 34.7)",
        "0.200 ms more than 0.200 ms buy 1.1 points of accuracy (95 % interval -0.1 to 2.3), which may be chance",
        "more than 0.400 ms was not worth it",
        "in all, 0.300 ms more than 0.100 ms buy 31.2 points of accuracy (95 % interval 26.2 to 35.8)",
    ]


def test_a_gain_that_may_be_chance() -> None:
    assert Gain(0.1, 5.0, 1.0, 9.0).sure
    assert not Gain(0.1, 5.0, -1.0, 11.0).sure


def test_a_run_that_is_not_the_demo_s_is_left_alone(trained: Path) -> None:
    before = (trained / "run.json").read_bytes()
    with pytest.raises(TrainingError, match=r"holds a run of the preset digits, which is not the demo's: choose another --out$"):
        call(trained)
    assert (trained / "run.json").read_bytes() == before
