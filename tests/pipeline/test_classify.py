"""Photographs through exported folders of every kind, against torch and torchvision on their own."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

import onceforall
from onceforall import Supernet
from onceforall.backends.common import Images, OnHost
from onceforall.calibrate import recalibrate
from onceforall.cli import run
from onceforall.common.progress import Progress
from onceforall.errors import DataError, FileError, VerificationError
from onceforall.export import (
    FORMATS,
    BundleFacts,
    BundleMember,
    CardFacts,
    ExportConfig,
    InputSteps,
    OnnxOptions,
    Sizes,
    Switch,
    Together,
    write_bundle,
)
from onceforall.pipeline import classify
from one_export import export_network
from tiny_run import edited

CLASSES = ("cat", "dog", "a, b | c", "ü", "<b>", "fifth", "sixth")
STEPS = InputSteps((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 0.8, "in words", 24)
SPACE = onceforall.space("mobilenet_v3", width=0.1, resolutions=(24,), depths=(1,), kernels=(3,), expand_ratios=(2, 3))
ARCH = SPACE.smallest()


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Supernet(SPACE, len(CLASSES))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, one of them broken, one hidden, with one folder below."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "below").mkdir()
    for i, name in enumerate(("1 one.jpg", "2.PNG", "below/3.webp", ".4.jpg")):
        low = rng.integers(0, 256, (5 + i, 7, 3), dtype=np.uint8)
        Image.fromarray(low).resize((61 + 9 * i, 47)).save(folder / name, quality=95)
    (folder / "0 broken.jpg").write_bytes(b"\xff\xd8 not really")
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def export(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = torch.randn(64, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    ready = recalibrate(supernet.extract(ARCH), iter([images]))
    folder = tmp_path_factory.mktemp("exports") / "net"
    export_network(
        folder, space=SPACE, arch=ARCH, network=ready.network, classes=CLASSES, preprocessing=STEPS, formats=["onnx"],
        images=images, measure=lambda files: CardFacts("name", "data", 0.5, 64, [], []),
    )  # fmt: skip
    return folder


def reference(export: Path, photo: Path) -> Tensor:
    """Probabilities of the plain network on what torchvision prepares."""
    steps = v2.Compose([v2.Resize(30), v2.CenterCrop(24), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    with Image.open(photo) as image:
        x = v2.functional.normalize(steps(image.convert("RGB")), list(STEPS.mean), list(STEPS.std))[None]
    with torch.no_grad():
        return torch.as_tensor(onceforall.load(export)(x).double().softmax(1)[0])


@pytest.mark.parametrize("format", [None, "onnx", "pytorch"])
def test_probabilities_are_those_of_the_network(export: Path, photos: Path, format: str | None) -> None:
    names = ["1 one.jpg", "2.PNG", "below/3.webp"]
    found = classify(export, [photos / name for name in names], format=format, top=100)
    assert [result.photo for result in found] == [photos / name for name in names]
    for result in found:
        assert result.format == (format or "onnx")
        expected = reference(export, result.photo)
        assert {name for name, _ in result.classes} == set(CLASSES)
        assert [share for _, share in result.classes] == sorted((share for _, share in result.classes), reverse=True)
        for name, share in result.classes:
            assert share == pytest.approx(float(expected[CLASSES.index(name)]), abs=2e-4)
        assert sum(share for _, share in result.classes) == pytest.approx(1)
    assert len(classify(export, [photos / "2.PNG"])[0].classes) == 5
    assert classify(export, [photos / "2.PNG"], top=1)[0].classes[0][0] == found[1].classes[0][0]


def test_files_that_end_with_a_softmax(export: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not given a second one; and a fixed batch is filled up."""
    plain, shapes = classify(export, [photos / "2.PNG"], top=7), list[int]()

    def opened(model: Path, *, threads: int, shape: tuple[int, ...] | None) -> OnHost:
        found = FORMATS["pytorch"].load(model.parent, threads)

        def run(x: Images) -> Images:
            shapes.append(len(x))
            return found(torch.from_numpy(x)).softmax(1).numpy()

        return OnHost(run)

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], runtime=replace(FORMATS["onnx"].runtime, open=opened)))
    options = OnnxOptions(batch=4, softmax=True)
    monkeypatch.setattr(ExportConfig, "from_json", lambda data: ExportConfig(SPACE, CLASSES, STEPS, options))
    ended = classify(export, [photos / "2.PNG"], top=7)
    assert shapes == [4]
    assert [name for name, _ in ended[0].classes] == [name for name, _ in plain[0].classes]
    assert [share for _, share in ended[0].classes] == pytest.approx([share for _, share in plain[0].classes], abs=1e-4)


def test_folders_and_what_cannot_be_read(export: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(export), str(photos), str(photos / "not there.jpg"), "--top", "2"]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(photos / name) for name in ("1 one.jpg", "2.PNG", "below/3.webp")]
    assert all(line.count(" %") == 2 for line in lines)
    noted, broken, missing, last = err.splitlines()
    assert noted.startswith(f"{photos}: left out: 1 file ")
    assert ".4.jpg" in noted
    assert "notes.txt" in noted
    assert broken.startswith(f"{photos / '0 broken.jpg'}: not an image")
    assert missing == f"{photos / 'not there.jpg'}: no such file"
    assert last == "ofa: 2 of 5 photographs cannot be read; the others are classified"


def test_json(export: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(export), str(photos), "--json", "--top", "3"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert len(found) == 4
    assert found[0]["error"].startswith("not an image")
    assert found[1].keys() == {"photo", "format", "classes"}
    assert found[1]["photo"] == str(photos / "1 one.jpg")
    assert [entry.keys() for entry in found[1]["classes"]] == [{"name", "probability"}] * 3
    assert len(err.splitlines()) == 3
    assert run(["classify", str(export), str(photos / "2.PNG"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["format"] == "onnx"


def test_every_photograph_has_one_line(export: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(export), str(photos / "0 broken.jpg")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ofa: 1 of 1 photographs cannot be read"
    shutil.copy(photos / "2.PNG", tmp_path / "two\nlines.png")
    assert run(["classify", str(export), str(tmp_path / "two\nlines.png")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path}/two\\nlines.png: ")


def test_what_is_not_there(export: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = [photos / "2.PNG"]
    with pytest.raises(VerificationError, match="unknown format 'tflite': choose from pytorch, onnx"):
        classify(export, photo, format="tflite")
    with pytest.raises(VerificationError, match=r"--format litert: .* has no model\.tflite: choose from pytorch, onnx"):
        classify(export, photo, format="litert")
    with pytest.raises(DataError, match="has one network only"):
        classify(export, photo, network="small")
    with pytest.raises(DataError, match="give a number of classes"):
        classify(export, photo, top=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no photographs in it: give files, or a folder with some in it"):
        classify(export, [tmp_path / "empty"])
    (tmp_path / "empty" / "a.heic").write_bytes(b"\0\0\0 ftypheic")
    with pytest.raises(DataError, match=r"no photographs in it: left out: 1 file of an unsupported kind \(\.heic\): a\.heic"):
        classify(export, [tmp_path / "empty"])
    with pytest.raises(FileError, match="but a folder of images: give a folder made by ofa specialise"):
        classify(photos, photo)
    (export / "model.onnx").rename(tmp_path / "model.onnx")
    try:
        assert classify(export, photo)[0].format == "pytorch"
    finally:
        (tmp_path / "model.onnx").rename(export / "model.onnx")


def test_images_are_what_they_are_in_training(export: Path, photos: Path, tmp_path: Path) -> None:
    """By suffix or content, through links, and without what tools leave."""
    (tmp_path / "all" / "@eaDir").mkdir(parents=True)
    for name in ("a.jfif", "b.JPE", "c", "@eaDir/small.jpg"):
        (tmp_path / "all" / name).write_bytes((photos / "1 one.jpg").read_bytes())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.mpo").write_bytes((photos / "1 one.jpg").read_bytes())
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all" / "e.heic").write_bytes(b"\0\0\0 ftypheic")
    said: list[str] = []
    found = classify(export, [tmp_path / "all"], progress=Progress(say=said.append))
    assert [str(result.photo.relative_to(tmp_path / "all")) for result in found] == ["a.jfif", "b.JPE", "c", "link/d.mpo"]
    assert all(result.error is None for result in found)
    (line,) = said
    assert "1 file of an unsupported kind (.heic): e.heic" in line
    assert "1 folder of the system or a tool: @eaDir" in line


def test_damage_names_the_file(export: Path, photos: Path, tmp_path: Path) -> None:
    for name, text in (("arch.json", "{}"), ("arch.json", "["), ("config.json", "{}"), ("config.json", "[")):
        copy = Path(shutil.copytree(export, tmp_path / "net", dirs_exist_ok=True))
        (copy / name).write_text(text)
        with pytest.raises(FileError, match=re.escape(str(copy / name))):
            classify(copy, [photos / "2.PNG"])
    copy = Path(shutil.copytree(export, tmp_path / "net", dirs_exist_ok=True))
    edited(copy / "config.json", lambda data: data.update(classes=list(CLASSES[:3]), num_classes=3))
    with pytest.raises(VerificationError, match=r"model\.onnx has outputs of shape \(1, 7\) for one photograph, but .* 3 classes"):
        classify(copy, [photos / "2.PNG"], format="onnx")


def test_programs_run_only_where_they_are_asked_for(export: Path, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "net"))
    for name in ("model.onnx", "weights.safetensors"):
        (copy / name).unlink()
    (copy / FORMATS["torch-export"].files[0]).write_text("a program from elsewhere")
    with pytest.raises(FileError, match="is a program, which may be from elsewhere: to run it, give --format torch-export"):
        classify(copy, [photos / "2.PNG"])


def test_without_onnx_runtime_pytorch_is_taken(export: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        FORMATS, "onnx", replace(FORMATS["onnx"], runtime=replace(FORMATS["onnx"].runtime, needs=("not_installed_at_all",)))
    )
    assert classify(export, [photos / "2.PNG"])[0].format == "pytorch"


def test_exports_of_before(export: Path, photos: Path) -> None:
    """Their config does not say the resolution."""
    before = (export / "config.json").read_text()
    plain = classify(export, [photos / "2.PNG"])

    def older(data: dict[str, dict[str, object]]) -> None:
        data["format"] = "onceforall.export/1"  # type: ignore[assignment]
        for name in ("resolution", "max_pixels", "interpolation"):
            del data["preprocessing"][name]

    edited(export / "config.json", older)
    try:
        assert classify(export, [photos / "2.PNG"]) == plain
    finally:
        (export / "config.json").write_text(before)


@pytest.fixture(scope="module")
def bundle(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = torch.randn(64, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    ready = recalibrate(supernet.extract(ARCH), iter([images]))
    member = BundleMember("small", ARCH)
    facts = BundleFacts("name", "data", "cpu", "method", 1.0, {"small": Switch(1, 1, 1, 1, 1, 1)}, Sizes(1, 1, 1, 1))
    folder = tmp_path_factory.mktemp("bundles") / "pair"
    write_bundle(
        folder, [Together(member, ready.network, images)], supernet=supernet, classes=CLASSES, preprocessing=STEPS,
        measure=lambda made, files: ([member], facts),
    )  # fmt: skip
    return folder


def test_a_network_of_a_bundle(bundle: Path, export: Path, photos: Path) -> None:
    photo = [photos / "2.PNG"]
    (own,) = classify(bundle, photo, network="small", top=7)
    (other,) = classify(export, photo, format="pytorch", top=7)
    assert [share for _, share in own.classes] == pytest.approx([share for _, share in other.classes], abs=1e-4)
    with pytest.raises(DataError, match="a bundle of several networks: give --network with one of small"):
        classify(bundle, photo)
    with pytest.raises(DataError, match="no network 'large' in this bundle: give --network with one of small"):
        classify(bundle, photo, network="large")


def test_the_clash_with_predict(capsys: pytest.CaptureFixture[str], tmp_path: Path, export: Path) -> None:
    assert run(["predict", "my net", "photo.png"]) == 2
    said = capsys.readouterr().err
    assert "predict measures accuracies of sub-networks; to classify photographs: ofa classify 'my net' photo.png" in said
    (tmp_path / "a.png").touch()
    assert run(["predict", str(export), str(tmp_path / "a.png"), "--seed", "3"]) == 2
    assert f"ofa classify {export} {tmp_path / 'a.png'} (see" in capsys.readouterr().err
    assert run(["predict", str(export)]) == 1
    assert f"ofa classify {export} PHOTO" in capsys.readouterr().err
