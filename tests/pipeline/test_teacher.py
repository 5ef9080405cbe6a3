"""Teachers of torchvision and timm: named, checked, learnt from."""

from pathlib import Path

import pytest
import torch
import torchvision

from onceforall.common.files import read_text
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, OnceForAllError, TrainingError
from onceforall.pipeline import train
from onceforall.pipeline.training.teacher import load_teacher
from onceforall.train import Schedule
from tiny_run import TRAINING


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "squeezenet.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), path)
    return path


def test_it_is_the_librarys_network(weights: Path) -> None:
    teacher = load_teacher(f"torchvision:squeezenet1_1:{weights}", 10, (32, 48))
    own = torchvision.models.squeezenet1_1(num_classes=10).eval()
    own.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(teacher(x), own(x))
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_training_learns_from_it_and_resumes(weights: Path, tmp_path: Path) -> None:
    text = f"torchvision:squeezenet1_1:{weights}"
    space = {**TRAINING["space"], "resolutions": (32,)}
    run = train("digits", out=tmp_path / "a", **{**TRAINING, "space": space, "scheme": "sandwich"}, teacher=text)
    schedule = Schedule.from_json(read_text(tmp_path / "a" / "schedule.json"))
    assert [phase.teacher for phase in schedule.phases] == ["external"]
    taught = run.supernet().state_dict()

    stops = iter([False, False, True])
    with pytest.raises(TrainingError, match="stopped"):
        train(
            "digits", out=tmp_path / "b", **{**TRAINING, "space": space, "scheme": "sandwich"}, teacher=text,
            progress=Progress(stopped=lambda: next(stops)),
        )  # fmt: skip
    resumed = train("digits", out=tmp_path / "b", resume=True).supernet().state_dict()
    assert all(torch.equal(value.nan_to_num(7), resumed[name].nan_to_num(7)) for name, value in taught.items())


def test_another_file_of_the_same_name_is_refused(weights: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(weights.read_bytes())
    space = {**TRAINING["space"], "resolutions": (32,)}
    with pytest.raises(TrainingError, match="stopped"):
        train(
            "digits", out=tmp_path / "run", **{**TRAINING, "space": space, "scheme": "sandwich"},
            teacher=f"torchvision:squeezenet1_1:{own}", progress=Progress(stopped=lambda: True),
        )  # fmt: skip
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), own)
    with pytest.raises(TrainingError, match="the file is not the one that the run was started with: restore it") as refused:
        train("digits", out=tmp_path / "run", resume=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("resnet18", TrainingError, "give LIBRARY:MODEL:FILE"),
        ("keras:a:b", TrainingError, "with LIBRARY torchvision or timm"),
        ("torchvision:no_such:{}", TrainingError, "torchvision cannot create it: Unknown model no_such"),
        ("torchvision:resnet18:{}", CheckpointError, "not the weights of torchvision's resnet18 with 10 classes"),
        ("torchvision:squeezenet1_1:nowhere.pth", CheckpointError, "no such file"),
        ("torchvision:vit_b_16:{}", CheckpointError, "not the weights"),
    ],
)
def test_what_cannot_teach(weights: Path, text: str, error: type[OnceForAllError], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        load_teacher(text.format(weights), 10, (32,))
    assert "\n" not in str(raised.value)


def test_images_that_are_too_small(weights: Path) -> None:
    with pytest.raises(TrainingError, match="cannot take images of 8 pixels"):
        load_teacher(f"torchvision:squeezenet1_1:{weights}", 10, (8, 32))


def test_a_scheme_from_labels_alone_gets_one(weights: Path, tmp_path: Path) -> None:
    space = {**TRAINING["space"], "resolutions": (32,)}
    runs = {}
    for name, teacher in (("labels", None), ("taught", f"torchvision:squeezenet1_1:{weights}")):
        given = {**TRAINING, "space": space, "scheme": None}
        runs[name] = train("digits", out=tmp_path / name, **given, teacher=teacher)
    phases = [Schedule.from_json(read_text(run.folder / "schedule.json")).phases for run in runs.values()]
    assert [[(p.distil, p.teacher) for p in own] for own in phases] == [[(False, "frozen")], [(True, "external")]]
    assert runs["labels"].weights_hash() != runs["taught"].weights_hash()
