"""What networks say of each held-out image: the same as `ofa evaluate`, with photographs, and nothing else of the file system."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from explorers import Served, serve
from onceforall.app.looks import SHOWN, Looks, NetworkLook, _write
from onceforall.common.files import make_folder, one_at_a_time
from onceforall.pipeline import Budget, Run, evaluate, specialise
from onceforall.scores import Confusion, Difference

NAMES = ("smallest", "largest")


@pytest.fixture(scope="module")
def looked(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An explorer that has measured two networks."""
    run = Path(shutil.copytree(measured, tmp_path_factory.mktemp("looks") / "run"))
    for served in serve(run):
        for name in NAMES:
            assert served.client.post("/api/looks/add", json={"arch": name, "name": f"the {name}"}).status_code == 200
        served.until(lambda s: len(looks(s)) == 2)
        yield served


def looks(served: Served) -> list[dict[str, Any]]:
    return list(served.client.get("/api/looks").json()["looks"])


def ids(served: Served) -> list[str]:
    """In the order of `NAMES`."""
    by_name = {look["name"]: look["id"] for look in looks(served)}
    return [by_name[f"the {name}"] for name in NAMES]


def test_the_same_as_evaluate_and_cell_by_cell(looked: Served) -> None:
    folder = looked.app.run.folder
    small, large = evaluate(folder, arch="smallest", against="largest")
    images = Run.open(folder).splits().held_out
    place = {name: i for i, name in enumerate(images.names)}
    for id, found in zip(ids(looked), (small, large), strict=True):
        assert isinstance(found.confusion, Confusion)
        one = looked.client.get(f"/api/looks/{id}").json()
        assert one["numbers"][0] == ["top-1", f"{100 * found.accuracy.top1:.1f} %"]
        assert one["rows"] == found.confusion.rows(Run.open(folder).info.classes)
        seen = set()
        for i, j in np.argwhere(found.confusion.counts):
            assert f'href="#cell-{i}-{j}"' in one["picture"]
            cell = looked.client.get(f"/api/looks/{id}/cell/{i}/{j}").json()
            assert cell["total"] == found.confusion.counts[i, j]
            assert len(cell["photos"]) == min(SHOWN, cell["total"])
            for photo in cell["photos"]:
                assert place[photo["name"]] == photo["image"]
                assert images.labels[photo["image"]] == i
                seen.add(photo["image"])
        assert one["picture"].count("<a ") == (found.confusion.counts > 0).sum()
        if len(images) <= SHOWN:
            assert seen == set(range(len(images)))
        wrong = {photo["image"] for photo in one["worst"]}
        assert found.right is not None
        assert not found.right[list(wrong)].any()
        assert len(wrong) > 0


def test_where_small_and_large_disagree(looked: Served) -> None:
    small, large = evaluate(looked.app.run.folder, arch="smallest", against="largest")
    first, second = ids(looked)
    found = looked.client.get(f"/api/looks/{first}/against/{second}").json()
    assert small.right is not None
    assert large.right is not None
    assert found["told"] == Difference.of(small.right, large.right).told("the smallest", "the largest")
    wanted = [small.right & ~large.right, large.right & ~small.right]
    for group, own in zip(found["groups"], wanted, strict=False):
        assert group["total"] == own.sum()
        assert {photo["image"] for photo in group["photos"]} <= set(np.flatnonzero(own).tolist())
    assert found["groups"][2]["title"] == "Both are wrong, differently"


def test_photographs_are_those_of_the_held_out_images_and_no_others(looked: Served) -> None:
    images = Run.open(looked.app.run.folder).splits().held_out
    for i in (0, len(images) - 1):
        answer = looked.client.get(f"/api/photos/{i}")
        assert answer.headers["content-type"] == "image/jpeg"
        picture = np.asarray(Image.open(io.BytesIO(answer.content)), float)
        assert abs(picture - images.pixels(i)).mean() < 6
    assert "no held-out image" in looked.client.get(f"/api/photos/{len(images)}").json()["error"]
    for path in ("-1", "..%2f..%2frun.json", "%2fetc%2fpasswd", "0.jpg", "9" * 5000):
        assert looked.client.get(f"/api/photos/{path}").status_code in (400, 404)
    for path in ("..%2frun", "0" * 12, "..", "%2e%2e"):
        for end in ("", "/cell/0/0", f"/against/{ids(looked)[0]}"):
            assert looked.client.get(f"/api/looks/{path}{end}").status_code in (307, 400, 404)
    assert "no cell 0, 99" in looked.client.get(f"/api/looks/{ids(looked)[0]}/cell/0/99").json()["error"]
    for path in ("/api/photos/0", "/api/looks", f"/api/looks/{ids(looked)[0]}"):
        assert looked.client.get(path, headers={"x-ofa-key": "wrong"}).status_code == 403


def test_exported_networks_with_their_own_weights(measured: Path, tmp_path: Path) -> None:
    """A fine-tuned one is what its folder says, not what the supernet would; when it is made again, it is to be measured again."""
    run = Path(shutil.copytree(measured, tmp_path / "run"))
    (made,) = specialise(run, [Budget()], finalists=1, export=["pytorch"])
    weights = made.folder / "weights.safetensors"
    tensors = load_file(weights)
    bias = "head.classifier.bias"
    save_file(tensors | {bias: tensors[bias] + torch.eye(len(tensors[bias]))[3] * 1e3}, weights)  # it says nothing but class 3
    for served in serve(run):
        (name,) = served.client.get("/api/looks").json()["exports"]
        assert name == made.folder.name
        assert "no such exported network" in served.client.post("/api/looks/add", json={"export": "../run"}).json()["error"]
        assert served.client.post("/api/looks/add", json={"export": name}).status_code == 200
        served.until(lambda s: len(looks(s)) == 1)
        (look,) = looks(served)
        assert look["name"] == f"{name}, as exported"
        one = served.client.get(f"/api/looks/{look['id']}").json()
        assert [i for i, row in enumerate(one["rows"]) if row[2] != "0.0 %"] == [3]
        save_file(tensors, weights)
        assert served.client.get("/api/looks").json()["others"] == 1
        shutil.rmtree(made.folder)
        assert served.client.get("/api/looks").json()["exports"] == []


def test_others_are_counted_and_not_shown(looked: Served, tmp_path: Path) -> None:
    run, (id, _) = looked.app.run, ids(looked)
    kept = Looks(replace(run, folder=Path(shutil.copytree(run.folder, tmp_path / "run"))))
    look = kept.get(id)
    _write(kept.folder / ("a" * 12 + ".safetensors"), replace(look, facts={**look.facts, "weights": "other"}))
    (kept.folder / ("b" * 12 + ".safetensors")).write_bytes(b"torn")
    found, others = kept.of_now()
    assert (len(found), others) == (2, 2)
    with pytest.raises(Exception, match="or with other weights: measure it again"):
        kept.get("a" * 12)
    kept.remove(id)
    kept.remove("../../run")
    assert [one.facts["name"] for one in kept.of_now()[0]] == ["the largest"]
    assert (kept.run.folder / "run.json").exists()


def test_a_measurement_is_cancelled(run_copy: Path) -> None:
    for served in serve(run_copy):
        with one_at_a_time(make_folder(served.app.jobs.folder.parent) / ".export.lock"):  # it waits for this
            id = served.client.post("/api/looks/add", json={"arch": "largest", "name": "x"}).json()["id"]
            served.until(lambda s, id=id: s.app.jobs.own[id]["step"].startswith("waiting for another"))
            assert served.client.post(f"/api/jobs/{id}/cancel", json={}).status_code == 200
            served.until(lambda s, id=id: s.app.jobs.own[id]["state"] == "cancelled")
        assert looks(served) == []
        (run_copy / "supernet.safetensors").unlink()
        shutil.rmtree(run_copy / "checkpoints")
        assert "has not finished" in served.client.post("/api/looks/add", json={"arch": "largest"}).json()["error"]
        assert "has not finished" in served.client.get("/api/looks").json()["problem"]


def test_several_labels_have_no_confusion_matrix() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    said = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.1], [0.3, 0.6, 0.2], [0.45, 0.9, 0.1]], np.float32)
    facts = {"name": "net", "classes": ["cat", "dog", "eel"], "names": [f"{i}.jpg" for i in range(4)]}
    look = NetworkLook("x", facts, labels, said, np.full(3, 0.5, np.float32))
    one = look.shown("map")
    assert one["picture"] == ""
    assert "no confusion matrix: an image may have several labels" in one["note"]
    assert one["numbers"][0][0] == "mAP"
    assert "top-1" not in str(one)
    words = {words for _, _, words in one["pairs"]}
    assert words == {"cat missed (1)", "dog wrongly predicted (1)", "eel wrongly predicted (1)", "eel missed (1)"}
    for i, kind, text in one["pairs"]:
        cell = look.cell(i, kind)
        assert f"{cell['title']} ({cell['total']})" == text
    assert look.cell(2, 1)["photos"] == [{"image": 1, "name": "1.jpg", "words": "eel: 10.0 %; has dog, eel"}]
    assert [photo["image"] for photo in one["worst"]] == [1, 0, 2, 3]
    assert one["worst"][1]["words"] == "predicted: cat 90.0 %, eel 80.0 %; has cat"
    other = NetworkLook("y", facts, labels, np.where(labels > 0, 0.9, 0.1).astype(np.float32), look.sure)
    found = look.against(other)
    assert "points of mAP" in found["told"]
    (group,) = found["groups"]
    assert group["total"] == 4
    assert group["photos"][0] == {"image": 1, "name": "1.jpg", "words": "eel: 10.0 % / 90.0 %; has dog, eel"}


def test_very_many_classes_have_no_picture() -> None:
    n, rng = 60, np.random.default_rng(0)
    labels = rng.integers(0, n, 500)
    said = np.where(rng.random(500) < 0.5, labels, rng.integers(0, n, 500))
    facts = {"name": "net", "classes": [f"c{i}" for i in range(n)], "names": [str(i) for i in range(500)]}
    one = NetworkLook("x", facts, labels, said, rng.random(500).astype(np.float32)).shown("macro_f1")
    assert one["picture"] == ""
    assert "60 classes are too many for a confusion matrix" in one["note"]
    assert one["numbers"][0][0] == "macro F1"
    assert len(one["pairs"]) == 12
