"""The explorer's answers, against the tables themselves; pins, exports, and a training that grows."""

import io
import json
import shutil
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onceforall
from explorers import Served, make_anew, serve
from onceforall.app.pins import Pins
from onceforall.app.pool import NetworkPool
from onceforall.arch import Arch
from onceforall.common.files import append_line
from onceforall.errors import FileError
from onceforall.pipeline import Run, fit_predictor


def random_pool(n: int, seed: int, costs: int = 3) -> NetworkPool:
    rng = np.random.default_rng(seed)
    space = onceforall.space("mobilenet_v3")
    scores = rng.random(n).round(2)
    return NetworkPool(
        space.sample_genes(rng, n), scores, scores, scores, {f"c{i}": rng.random(n).round(2) + 0.1 for i in range(costs)}
    )


def by_hand(pools: list[NetworkPool], limits: dict[str, float]) -> float | None:
    rows = [(p.scores[i], {name: p.costs[name][i] for name in p.costs}) for p in pools for i in range(len(p))]
    return max(
        (score for score, costs in rows if all(costs[name] <= most * (1 + 1e-9) for name, most in limits.items())), default=None
    )


@pytest.mark.parametrize("seed", range(5))
def test_merging_loses_no_answer(seed: int) -> None:
    pools = [random_pool(300, 10 * seed + i) for i in range(3)]
    merged = pools[0].merged(pools[1]).merged(pools[2])
    assert len(merged) < 900
    rng = np.random.default_rng(seed)
    for _ in range(200):
        limits = {f"c{i}": float(rng.random().__round__(2)) + 0.05 for i in range(3) if rng.random() < 0.7}
        row = merged.best(limits)
        assert (None if row is None else merged.scores[row]) == by_hand(pools, limits)


def test_front_is_what_none_beats() -> None:
    pool = random_pool(200, 1)
    merged = pool.merged(pool)
    front = merged.front("c0")
    for row in front:
        assert not ((merged.costs["c0"] <= merged.costs["c0"][row]) & (merged.scores > merged.scores[row])).any()
    assert (np.diff(merged.costs["c0"][front]) > 0).all()


def test_best_keeps_the_limits_and_is_no_worse_than_random_ones(served: Served) -> None:
    facts = served.client.get("/api/run").json()
    device = facts["devices"][0]["spec"]
    run = Run.open(served.app.run.folder)
    models = served.app.engine.models
    assert models is not None
    pool = models.pool(run.space.sample_genes(np.random.default_rng(5), 500))
    middle = float(np.median(pool.costs["macs"]))
    answer = served.client.get("/api/best", params={"device": device, "macs": middle}).json()
    arch = Arch.from_json(answer["network"]["arch"])
    plan = run.space.lower(arch, run.num_classes)
    assert plan.macs == answer["network"]["costs"]["macs"] <= middle
    assert plan.params == answer["network"]["costs"]["params"]
    found = answer["network"]["top1"] - answer["network"]["std"]
    assert found >= pool.scores[pool.costs["macs"] <= middle].max() - 1e-9
    assert answer["network"]["svg"].startswith("<svg")
    assert "<style" not in answer["network"]["svg"]
    front = served.client.get("/api/front", params={"cost": f"latency:{device}"}).json()
    assert len(front["front"]) > 1
    assert len(front["cloud"]) > 100


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"macs": "-1"}, "the limit macs is '-1': it must be a number above 0"),
        ({"macs": "nan"}, "the limit macs is 'nan'"),
        ({"latency_ms": "5", "device": "phone"}, "'phone' has not been profiled: ofa profile"),
    ],
)
def test_wrong_limits(served: Served, query: dict[str, str], text: str) -> None:
    response = served.client.get("/api/best", params=query)
    assert response.status_code == 400
    assert text in response.json()["error"]


def test_limits_that_nothing_keeps(served: Served) -> None:
    answer = served.client.get("/api/best", params={"macs": "1"}).json()
    assert answer["network"] is None
    assert "no network meets these limits: with the other limits unchanged, allow at least" in answer["message"]


def test_refined_answers_are_no_worse(served: Served) -> None:
    query = {"macs": "400000"}
    first = served.client.get("/api/best", params=query).json()
    done = served.wait("/api/best?macs=400000", "refining", False)
    assert isinstance(done["network"], dict)
    assert done["network"]["top1"] - done["network"]["std"] >= first["network"]["top1"] - first["network"]["std"] - 1e-9


def test_two_people_pin_at_once(tmp_path: Path) -> None:
    space, pins = onceforall.space("mobilenet_v3"), [Pins(tmp_path) for _ in range(4)]
    archs = [space.sample(np.random.default_rng(i)) for i in range(16)]
    threads = [threading.Thread(target=lambda p=p, i=i: [p.add(arch, f"{i}") for arch in archs[i::4]]) for i, p in enumerate(pins)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = pins[0].read()
    assert {pin["arch"] for pin in kept} == {arch.to_json() for arch in archs}
    assert pins[1].add(archs[0], "again")["name"] == "0"
    assert pins[2].rename(kept[0]["id"], " a  b ")["name"] == "a b"
    pins[3].remove(kept[1]["id"])
    assert len(pins[0].read()) == 15
    with pytest.raises(FileError, match="someone has removed it"):
        pins[0].rename(kept[1]["id"], "x")
    with pytest.raises(FileError, match="give one of 1 to 80"):
        pins[0].rename(kept[0]["id"], " ")
    before = pins[0].path.read_bytes()[:-9]
    pins[0].path.write_bytes(before)
    with pytest.raises(FileError):
        pins[0].add(archs[3], "x")
    assert pins[0].path.read_bytes() == before


def jobs(served: Served) -> list[dict[str, Any]]:
    return list(served.client.get("/api/jobs").json())


def test_export_cancel_and_download(run_copy: Path, tmp_path: Path) -> None:
    for served in serve(run_copy):
        served.wait("/api/run", "ready")
        network = served.client.get("/api/best").json()["network"]
        body = {"arch": network["arch"], "formats": ["pytorch"], "device": "pytorch", "name": "first", "limits": {}}
        first = served.client.post("/api/jobs/add", json=body).json()["id"]
        second = served.client.post("/api/jobs/add", json={**body, "name": "second"}).json()["id"]
        third = served.client.post(
            "/api/jobs/add", json={**body, "name": "third", "device": "cpu", "limits": {"latency_ms": 1e-6}}
        ).json()["id"]
        assert served.client.post(f"/api/jobs/{second}/cancel", json={}).status_code == 200
        assert served.client.get(f"/api/jobs/{first}/download").status_code == 400
        until = time.monotonic() + 120
        while any(job["state"] in ("waiting", "running") for job in jobs(served)):
            assert time.monotonic() < until
            time.sleep(0.2)
        states = {job["id"]: job for job in jobs(served)}
        assert (states[first]["state"], states[second]["state"], states[third]["state"]) == ("done", "cancelled", "failed")
        assert "raise the limit" in states[third]["error"]
        archive = zipfile.ZipFile(io.BytesIO(served.client.get(f"/api/jobs/{first}/download").content))
        archive.extractall(tmp_path / "got")
        assert archive.testzip() is None
        (folder,) = (tmp_path / "got").iterdir()
        model = onceforall.load(folder)
        assert model(torch.zeros(1, 3, network["resolution"], network["resolution"])).shape == (1, 10)
        assert json.loads((folder / "arch.json").read_text()) == json.loads(network["arch"])
        for name in ("../run.json", "..%2f..%2frun.json", "0" * 12, second):
            assert served.client.get(f"/api/jobs/{name}/download").status_code in (400, 404)
        assert served.client.post("/api/jobs/add", json={**body, "formats": ["exe"]}).json()["error"].startswith("formats ['exe']")
    for served in serve(run_copy):  # another start knows what was exported
        assert {job["id"] for job in jobs(served)} == {first, second, third}
        assert served.client.get(f"/api/jobs/{first}/download").status_code == 200


def test_a_training_without_predictor(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    for served in serve(run):
        facts = served.wait("/api/run", "filling", False)
        assert facts["ready"] is False
        assert f"no accuracy predictor yet: ofa predict {run}" in str(facts["problem"])
        error = served.client.get("/api/best").json()["error"]
        assert "no accuracy predictor yet" in error
        before = served.client.get("/api/training").json()
        assert before["state"] == "done"
        assert before["step"] == before["steps"]
        record = {"event": "train", "phase": before["phases"][-1]["name"], "step": before["step"] + 9, "seconds": 1e4, "loss": 1.0}
        append_line(run / "metrics.jsonl", {**record, "rate": 0.1})
        assert served.client.get("/api/training").json()["step"] == before["step"] + 9


def test_what_is_made_anew_shows(run_copy: Path) -> None:
    fit_predictor(run_copy, kinds=["smooth"])
    for served in serve(run_copy):
        facts = served.wait("/api/run", "ready")
        device = facts["devices"][0]["spec"]  # type: ignore[index]
        before = served.client.get("/api/best").json()
        arch, generation = before["network"]["arch"], before["generation"]
        assert before["network"]["generation"] == generation == facts["generation"]
        served.app.engine.refine({"latency:gone": 1.0})  # as a page asks that does not know it yet
        make_anew(run_copy)
        until = time.monotonic() + 60
        while (after := served.client.get("/api/best").json())["generation"] == generation:
            assert time.monotonic() < until
            time.sleep(0.05)
        network = served.client.post("/api/network", json={"arch": arch}).json()
        assert network["generation"] >= after["generation"] > generation
        assert network["costs"][f"latency:{device}"] == pytest.approx(2 * before["network"]["costs"][f"latency:{device}"])
        while (facts := served.client.get("/api/run").json())["predictor"]["kind"] != "linear":
            assert time.monotonic() < until
            time.sleep(0.05)
        shutil.rmtree(next(run_copy.glob("latency/*")))
        while (facts := served.client.get("/api/run").json())["devices"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert facts["generation"] > network["generation"]
        assert served.app.engine.refine({"macs": 400_000.0})
        served.wait("/api/best?macs=400000", "refining", False)
