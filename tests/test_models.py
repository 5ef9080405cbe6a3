"""Networks that users name: what is made of the text, weights of files, and one line for what cannot be."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from onceforall.common.files import sha256
from onceforall.errors import CheckpointError, FileError, MissingExtraError, ModelError, OnceForAllError
from onceforall.models import bring, is_source, lasting_source, lasting_weights
from tiny_own import OWN, TRANSFORMER, source, trained_model


def same(a: nn.Module, b: dict[str, Tensor]) -> bool:
    own = a.state_dict()
    return own.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in own.items())


def test_a_function_of_a_file(tmp_path: Path) -> None:
    named = source(tmp_path)
    state = torch.random.get_rng_state()
    first, again, other = bring(named), bring(named), bring(named, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(first.model, again.model.state_dict())
    assert not same(first.model, other.model.state_dict())
    assert first.source == "own.py:Net"
    assert (first.weights.file, first.weights.sha256) == (None, again.weights.sha256)
    assert first.weights.sha256 != other.weights.sha256
    assert not first.weights.random
    assert not first.model.training
    assert first.pixels is None


def test_what_it_says_of_its_images(tmp_path: Path) -> None:
    found = bring(source(tmp_path, TRANSFORMER))  # num_classes has no default
    assert (found.mean, found.std, found.pixels) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 24)
    assert found.model.get_submodule("head").out_features == 1000
    with pytest.raises(ModelError, match="must be three numbers each"):
        bring(source(tmp_path, TRANSFORMER.replace("(0.5, 0.4, 0.3)", "0.5")))
    assert (found.crop_share, found.interpolation, found.notes) == (None, "bilinear", ())


def saying(more: str) -> str:
    return TRANSFORMER.replace('"input_size"', f'{more}, "input_size"')


def test_how_its_images_are_cropped_and_resized(tmp_path: Path) -> None:
    found = bring(source(tmp_path, saying('"crop_pct": 0.95, "interpolation": "bicubic"')))
    assert (found.crop_share, found.interpolation, found.notes) == (0.95, "bicubic", ())
    other = bring(source(tmp_path, saying('"interpolation": "nearest"')))
    assert other.interpolation == "bilinear"
    assert other.notes == ("the weights expect images resized by 'nearest': bilinear is used",)
    whole = bring(source(tmp_path, saying('"crop_pct": 1.15, "crop_mode": "squash"')))  # as some of timm's
    assert whole.crop_share == 1.0
    assert whole.notes == (
        "the weights expect images shrunk to 0.87 of the network's size: here, they fill it",
        "the weights expect images cropped by 'squash': the center is used",
    )
    with pytest.raises(ModelError, match=r"crop_pct of its default_cfg is 0.3: a number from 0.5 to 1 is needed"):
        bring(source(tmp_path, saying('"crop_pct": 0.3')))
    with pytest.raises(ModelError, match=r"crop_pct a number"):
        bring(source(tmp_path, saying('"crop_pct": "all"')))


def test_a_neighbour_can_be_imported(tmp_path: Path) -> None:
    source(tmp_path)
    text = (
        "from dataclasses import dataclass\nimport own\n@dataclass\nclass Size:\n    n: int\ndef small(): return own.Net(Size(3).n)"
    )
    assert bring(source(tmp_path, text, "small", "size.py")).model.get_submodule("head").out_features == 3


@pytest.mark.parametrize("how", ["plain", "module", "model", "nested", "safetensors"])
def test_weights_of_a_file(tmp_path: Path, how: str) -> None:
    named = source(tmp_path)
    weights = trained_model(named).state_dict()
    path = tmp_path / ("w.safetensors" if how == "safetensors" else "w.pth")
    files: dict[str, Any] = {
        "plain": weights,
        "module": {f"module.{name}": value for name, value in weights.items()},
        "model": {"model": weights, "epoch": 3},
        "nested": {"state_dict": {f"model.module.{name}": value for name, value in weights.items()}},
    }
    if how == "safetensors":
        save_file(weights, path, metadata={"license": "mit"})
    else:
        torch.save(files[how], path)
    found = bring(named, path)
    assert same(found.model, weights)
    assert (found.weights.file, found.weights.sha256) == (path.name, sha256(path))
    assert found.weights.license == ("mit" if how == "safetensors" else None)
    assert not found.unfilled


def test_old_files_have_no_counters(tmp_path: Path) -> None:
    named = source(tmp_path)
    weights = trained_model(named).state_dict()
    torch.save({name: value for name, value in weights.items() if "num_batches" not in name}, tmp_path / "w.pth")
    assert same(bring(named, tmp_path / "w.pth").model, weights)


def test_another_number_of_classes(tmp_path: Path) -> None:
    named = source(tmp_path)
    torch.save(trained_model(named, 4).state_dict(), tmp_path / "w.pth")
    found = bring(named, tmp_path / "w.pth")
    assert found.model.get_submodule("head").out_features == 4  # made for the file's number
    assert not found.unfilled
    fixed = source(tmp_path, OWN + "\ndef ten(): return Net()\n", "ten")
    found = bring(fixed, tmp_path / "w.pth")
    assert dict(found.unfilled) == {
        "head.weight": "head.weight is 4×8 there and 10×8 here",
        "head.bias": "head.bias is 4 there and 10 here",
    }


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    found = bring(source(tmp_path, OWN + "\ndef half(): return Net().half()\n", "half"))
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert found.notes == ("the network has float16 weights: it is converted to float32",)


BAD = {
    "raises": ("def f(): raise KeyError('what')", r"own.py:f fails \(line 1\): KeyError: 'what'"),
    "exits": ("import sys\ndef f():\n    sys.exit(3)", r"fails \(line 3\): SystemExit: 3"),
    "no python": ("def f(:", r"fails \(line 1\): SyntaxError"),
    "no module": ("def f(): return 3", "returns a value of type int: it must return a torch.nn.Module"),
    "no function": ("def g(): pass\ndef _h(): pass\nx = 1", "no function or class 'f': it has g$"),
    "not callable": ("f = 3", "no function or class 'f'"),
    "needs more": ("def f(width, *, deep): pass", "needs width, deep, but is called with no arguments other than num_classes"),
    "imports nothing": ("import no_such_package_here\ndef f(): pass", r"fails \(line 1\): ModuleNotFoundError"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(ModelError, match=message) as raised:
        bring(source(tmp_path, text, "f"))
    assert "\n" not in str(raised.value)


def test_bad_names(tmp_path: Path) -> None:
    for text in ("resnet18", "jax:resnet18", f"{tmp_path / 'own.py'}", "own.py:a b"):
        with pytest.raises(ModelError, match="names no network: give timm:NAME"):
            bring(text)
    (tmp_path / "own.py").write_text("def f(num_classes): ...\ndef g(x): ...\nclass Net:\n  def __init__(self, a=1): ...\n1 / 0")
    with pytest.raises(ModelError, match=r"did you mean \S*own\.py:f, \S*own\.py:Net\?"):
        bring(str(tmp_path / "own.py"))
    with pytest.raises(ModelError, match=r"did you mean \S*own\.py:g\?"):
        bring(f"{tmp_path / 'own'}:g")
    with pytest.raises(FileError, match=r"none.py: no such file"):
        bring("none.py:f")
    with pytest.raises(ModelError, match=r"no model 'resnet19': did you mean resnet18"):
        bring("torchvision:resnet19")
    with pytest.raises(ModelError, match=r"no weights 'V9' of resnet18: choose from IMAGENET1K_V1"):
        bring("torchvision:resnet18.V9")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_bad_weights(tmp_path: Path) -> None:
    named, path = source(tmp_path), tmp_path / "w.pth"
    weights = trained_model(named).state_dict()

    def refused(content: Any, error: type[OnceForAllError], message: str) -> None:
        if content is not None:
            torch.save(content, path)
        with pytest.raises(error, match=message) as raised:
            bring(named, path)
        assert "\n" not in str(raised.value)

    refused(None, CheckpointError, "w.pth: no such file")
    refused(
        torchvision.models.resnet18().state_dict(),
        ModelError,
        r"not the weights of own.py:Net: missing stem.0.weight, .*more\); unexpected conv1",
    )
    wide = {**weights, "stem.0.weight": torch.zeros(9, 3, 3, 3), "stem.0.bias": torch.zeros(7)}
    refused(wide, ModelError, "stem.0.weight is 9×3×3×3 there and 8×3×3×3 here, stem.0.bias is 7 there and 8 here")
    wrapped = {f"wrapped.net.{name}": value for name, value in weights.items()}
    refused(wrapped, ModelError, "all names in the file begin with 'wrapped.net.': remove this prefix")
    refused({**weights, "more": torch.zeros(1)}, ModelError, "unexpected more")
    refused({"state_dict": Evil(tmp_path / "ran")}, CheckpointError, "refused because it could run code")
    assert not (tmp_path / "ran").exists()
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:3000])
    refused(None, CheckpointError, "or damaged")


def test_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = bring("torchvision:mobilenet_v3_small", "random")
    assert random.weights.random
    assert (random.pixels, random.mean) == (224, (0.485, 0.456, 0.406))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert same(random.model, torchvision.models.mobilenet_v3_small().state_dict())
    path = tmp_path / "w.pth"
    other = bring("torchvision:mobilenet_v3_small", "random", seed=1).model.state_dict()
    torch.save(other, path)
    for name in ("torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_small.DEFAULT"):
        found = bring(name, path)
        assert same(found.model, other)
        assert (found.weights.file, found.weights.address) == (path.name, None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # the cache of downloads
    monkeypatch.setenv("ONCEFORALL_MIRROR", "http://127.0.0.1:9")  # nobody listens there
    for name in ("torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_small.DEFAULT"):
        message = r"pth \(10.3 MB\): not in the cache, and cannot be downloaded .*refused.*: connect, or get the file elsewhere"
        with pytest.raises(FileError, match=rf"'{name}' needs http://127.0.0.1:9/\S+{message} and give it with --weights FILE"):
            bring(name)


def test_timm() -> None:
    found = bring("timm:test_byobnet", "random")
    assert found.weights.random
    assert (found.pixels, found.mean) == (160, (0.485, 0.456, 0.406))
    with pytest.raises(ModelError, match=r"did you mean .*resnet18"):
        bring("timm:resnet81")
    with pytest.raises(ModelError, match="timm has no weights 'foo' of resnet18: choose from a1_in1k"):
        bring("timm:resnet18.foo")


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'timm', which is not installed: pip install 'onceforall\[timm\]'"):
        bring("timm:resnet18")


def test_which_texts_are_sources(tmp_path: Path) -> None:
    assert all(map(is_source, ["timm:resnet18", "torchvision:resnet18", "hf:me/net", "ofa:x", "own.py:Net", "/a/b.py:f", "own.py"]))
    assert not any(map(is_source, ["run", "a/run", "C:\\runs\\run", str(tmp_path), "digits"]))
    assert lasting_source("timm:resnet18") == "timm:resnet18"
    assert lasting_source("own.py:Net") == f"{Path.cwd() / 'own.py'}:Net"
    assert (lasting_weights(None), lasting_weights(Path("random"))) == (None, "random")
    assert lasting_weights("w.pth") == str(Path.cwd() / "w.pth")
    assert lasting_weights(tmp_path / "random") == str(tmp_path / "random")
