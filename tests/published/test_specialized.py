"""Specialised networks of the original: the embedded ones, and those in a folder of published files if there is one."""

import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import onceforall
from onceforall import published
from onceforall.errors import ArchError, CheckpointError, FileError
from onceforall.published.names import plain_name

PUBLISHED = os.environ.get("ONCEFORALL_PUBLISHED", "")
DATA = Path(__file__).parent.parent / "published_data" / "specialized.json.gz"
EMBEDDED: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))
SMALL = "cpu_lat-10ms_top1-71.1_finetune-25"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / SMALL, EMBEDDED[SMALL])


def write(folder: Path, network: dict[str, Any]) -> Path:
    folder.mkdir()
    for name in ("net.config", "run.config"):
        (folder / name).write_text(json.dumps(network[name]))
    return folder


def test_all_of_them_are_embedded() -> None:
    families = [network["net.config"]["name"] for network in EMBEDDED.values()]
    assert {name: families.count(name) for name in families} == {"MobileNetV3": 17, "ProxylessNASNets": 8}


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_embedded(name: str, tmp_path: Path) -> None:
    network = EMBEDDED[name]
    found = published.specialized(write(tmp_path / "network", network))
    check(found, network["macs"], network["params"], network["run.config"]["image_size"])
    assert (found.arch is None) == (found.resolution > 224)


@pytest.mark.skipif(not PUBLISHED, reason="ONCEFORALL_PUBLISHED does not name the folder of the published files")
def test_all_published() -> None:
    rows = list(csv.DictReader((Path(PUBLISHED) / "specialized.csv").read_text().splitlines()))
    assert len(rows) == 25
    for row in rows:
        found = published.specialized(Path(PUBLISHED) / "specialized" / row["id"])
        check(found, int(row["macs"]), int(row["params"]), int(row["resolution"]))


def check(found: published.Specialized, macs: int, params: int, resolution: int) -> None:
    assert (found.plan.macs, found.plan.params, found.resolution) == (macs, params, resolution)
    assert sum(p.numel() for p in found.model.parameters()) == params
    assert not found.model.training
    assert not found.has_weights
    if found.arch is not None:
        assert found.space is not None
        lowered = found.space.lower(found.arch)
        assert (lowered.macs, lowered.params) == (macs, params)
        assert [s.name for s in lowered.segments] == [s.name for s in found.plan.segments]


def test_a_resolution_outside_the_published_spaces(tmp_path: Path) -> None:
    folder = write(tmp_path / "n", EMBEDDED["flops-595M_top1-80.0_finetune-75"])
    space = onceforall.space("mobilenet_v3", width=1.2, resolutions=(236,))
    found = published.specialized(folder, spaces=[space])
    assert found.space == space
    assert found.arch is not None
    assert space.lower(found.arch).macs == found.plan.macs


def as_init(model: torch.nn.Module, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the original's specialised ProxylessNAS networks, written down by hand."""
    parts = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}
    number = {"fixed": 0}
    result = {}
    for name, value in model.state_dict().items():
        segment, _, rest = name.rpartition(".")[0].rpartition(".")[0].rpartition(".")
        leaf = name.rpartition(".")[2]
        kind = {"conv": "conv", "norm": "bn"}.get(name.split(".")[-2], "linear")
        if segment.startswith(("stages", "fixed")):
            at = number.setdefault(segment, len(number))
            result[f"blocks.{at}.mobile_inverted_conv.{parts[rest]}.{kind}.{leaf}"] = value
        else:
            layer = {"stem.first": "first_conv", "head.mix": "feature_mix_layer"}.get(f"{segment}.{rest}", "classifier")
            result[f"{layer}.{kind}.{leaf}"] = value
    assert len(config["blocks"]) == len(number)
    return result


@pytest.mark.parametrize("form", ["init", "bare", "safetensors"])
def test_weights_load(folder: Path, form: str) -> None:
    torch.manual_seed(0)
    there = published.specialized(folder).model
    for norm in there.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    weights = as_init(there, EMBEDDED[SMALL]["net.config"])
    if form == "safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "init.safetensors")
    else:
        torch.save(weights if form == "bare" else {"state_dict": weights}, folder / "init")
    found = published.specialized(folder)
    assert found.has_weights
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.model(x), there(x))


@pytest.mark.parametrize("stem_kept", [True, False])
def test_weights_of_a_resnet_load(tmp_path: Path, stem_kept: bool) -> None:
    """The original numbers the convolutions of the stem that are there."""
    space = published.published_space("ofa_resnet50")
    arch = published.arch(space, {"d": [2 * stem_kept, 0, 0, 0, 0], "e": 0.2, "w": 0}, 128)
    folder = write(tmp_path / "n", {"net.config": published.net_config(space, arch, 3), "run.config": {"image_size": 128}})
    there = published.specialized(folder).model
    stem = ["0", "1.conv", "2"] if stem_kept else ["0", "1"]
    ours = ["stages.0.0.first", "stages.0.1.residual", "stages.1.0.last"] if stem_kept else ["stages.0.0.first", "stages.1.0.last"]
    names = {f"{mine}.": f"input_stem.{number}." for mine, number in zip(ours, stem, strict=True)}
    blocks = dict.fromkeys(name.rsplit(".", 3)[0] for name in there.state_dict() if name.startswith("stages") and int(name[7]) > 1)
    blocks = {name.removesuffix(".shortcut"): None for name in blocks}
    names |= {f"{block}.": f"blocks.{i}." for i, block in enumerate(blocks)}
    parts = {".reduce.": ".conv1.", ".spatial.": ".conv2.", ".expand.": ".conv3.", ".shortcut.": ".downsample.", ".norm.": ".bn."}
    weights = {}
    for name, value in there.state_dict().items():
        renamed = name.replace("head.classifier.", "classifier.linear.")
        for mine, theirs in {**names, **parts}.items():
            renamed = renamed.replace(mine, theirs)
        weights[renamed] = value
    assert "input_stem.0.conv.weight" in weights
    assert "blocks.0.downsample.bn.weight" in weights
    torch.save({"state_dict": weights}, folder / "init")
    before = torch.random.get_rng_state()
    found = published.specialized(folder)
    assert torch.equal(before, torch.random.get_rng_state())
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(found.model(x), there(x))


@pytest.mark.parametrize("name", published.NAMES)
def test_saved_as_the_original_does(name: str, tmp_path: Path) -> None:
    space = published.published_space(name).restrict(resolutions=(128,))
    arch = space.smallest()
    supernet = onceforall.Supernet(space, 4).eval()
    network = supernet.extract(arch)
    folder = published.save_specialized(tmp_path / "mine", space, arch, network)
    found = published.specialized(folder, spaces=[space])
    assert (found.arch, found.resolution, found.has_weights) == (arch, 128, True)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(found.model(x), network(x))
    names = torch.load(folder / "init", weights_only=True)["state_dict"]
    some = {"classifier.linear.bias", "blocks.1.conv2.bn.weight" if "resnet" in name else "blocks.1.conv.point_linear.bn.weight"}
    assert some <= set(names)
    assert "resnet" not in name or {"input_stem.0.conv.weight", "input_stem.1.bn.bias"} <= set(names)
    with pytest.raises(CheckpointError, match="does not have this architecture"):
        published.save_specialized(tmp_path / "other", space, space.largest(), network)


def test_plain_name_brings_every_spelling_together() -> None:
    wanted = "blocks.3.conv.depth_conv.bn.weight"
    assert plain_name("module.blocks.3.mobile_inverted_conv.depth_conv.bn.bn.weight") == plain_name(wanted) == wanted
    assert (
        plain_name("input_stem.1.conv.conv.conv.weight")
        == plain_name("input_stem.1.conv.conv.weight")
        == "input_stem.1.conv.weight"
    )


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


def test_bad_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=r"has no net\.config"):
        published.specialized(tmp_path / "nowhere")
    torch.save({"state_dict": Trap()}, folder / "init")
    with pytest.raises(CheckpointError, match="refused"):
        published.specialized(folder)
    assert not Path("executed").exists()
    torch.save({"first_conv.conv.weight": torch.zeros(1)}, folder / "init")
    with pytest.raises(CheckpointError, match=r"missing in the checkpoint"):
        published.specialized(folder)
    (folder / "init").unlink()
    for text, message in (
        ("{}", "no image_size"),
        ('{"image_size": "big"}', "'big'"),
        ('{"image_size": 5}', "8 to 4096"),
        ("[", "JSON"),
    ):
        (folder / "run.config").write_text(text)
        with pytest.raises((ArchError, FileError), match=message):
            published.specialized(folder)
    (folder / "run.config").unlink()
    with pytest.raises(FileError, match=r"run\.config"):
        published.specialized(folder)
