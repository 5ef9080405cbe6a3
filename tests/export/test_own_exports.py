"""Own networks exported, bundled and drawn as those that were written for the library are."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

import onceforall
from exported_networks import CLASSIFIERS, MODELS, PIXELS, model_of, supernet_of
from onceforall.calibrate import recalibrate
from onceforall.errors import VerificationError
from onceforall.export import BundleFacts, BundleMember, CardFacts, InputSteps, Sizes, Switch, Together, write_bundle
from onceforall.export.proof import compare_logits, reference_of
from onceforall.picture import draw
from onceforall.supernets.conversion import elastic
from one_export import export_network

CLASSES = tuple(f"kind {i}" for i in range(10))
STEPS = InputSteps((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), 0.875, "short side to 37, bilinear; centre crop")
SVG = "{http://www.w3.org/2000/svg}"


def images_of(count: int = 16) -> Tensor:
    return torch.randn(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))


def arguments(supernet: Any, arch: Any, **changes: Any) -> dict[str, Any]:
    return {
        "space": supernet.space,
        "arch": arch,
        "network": supernet.extract(arch).eval(),
        "supernet": supernet,
        "classes": CLASSES,
        "preprocessing": STEPS,
        "formats": ["onnx"],
        "images": images_of(),
        "measure": lambda folder: CardFacts("own, under 1 ms", "things", 0.9, 100),
        "readers": [],
    } | changes


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_exports(name: str, tmp_path: Path) -> None:
    supernet = supernet_of(name)
    arch = supernet.space.sample(np.random.default_rng(1))
    formats = ["onnx", "torch-export", "onnx-int8"] if name in ("conv", "vit") else ["onnx"]
    done = export_network(tmp_path / "net", **arguments(supernet, arch, formats=formats, calibration=images_of()))
    assert set(done.proofs) == {"pytorch", *formats}
    assert all(proof.active is not None for proof in done.proofs.values())
    network = onceforall.load(tmp_path / "net")
    compare_logits("loaded", reference_of(supernet.extract(arch), images_of()), [network(images_of()).detach()])
    card = (tmp_path / "net" / "README.md").read_text(encoding="utf-8")
    assert "A network made elastic from a trained one for things" in card
    assert "| share of its widths | hidden | heads |" in re.sub(" +", " ", card)
    assert "written with torch" in card


def test_the_card_says_where_a_network_comes_from(tmp_path: Path) -> None:
    supernet = supernet_of("csp")
    graph = {**supernet.space.arguments["graph"], "about": {"model": "timm: csp_tiny", "weights": "in1k"}}
    supernet = onceforall.Supernet(onceforall.space("graph", **{**supernet.space.arguments, "graph": graph})).eval()
    export_network(tmp_path / "net", **arguments(supernet, supernet.space.smallest()))
    assert r"(model: timm: csp\_tiny; weights: in1k)" in (tmp_path / "net" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "gives"), [("unet", r"\(n, 4, 32, 32\)"), ("heads", "several tensors")])
def test_other_than_classifiers_are_refused(name: str, gives: str, tmp_path: Path) -> None:
    supernet = supernet_of(name)
    with pytest.raises(VerificationError, match=f"the network returns {gives}, but an exported folder is for a classifier"):
        export_network(tmp_path / "net", **arguments(supernet, supernet.space.largest(), classes=CLASSES[:1]))
    assert not list(tmp_path.iterdir())


def test_a_wrong_weight_is_found(tmp_path: Path) -> None:
    supernet = supernet_of("conv")
    arch = supernet.space.smallest()
    network = supernet.extract(arch)
    with torch.no_grad():
        network.get_parameter("blocks.0.project.weight").mul_(1.5)
    with pytest.raises(VerificationError, match="does not compute what the network computes"):
        export_network(tmp_path / "net", **arguments(supernet, arch, network=network))


@pytest.mark.parametrize("name", ["conv", "vit"])
def test_bundles(name: str, tmp_path: Path) -> None:
    supernet = elastic(model_of(MODELS[name]), (PIXELS,)).eval()
    space = supernet.space
    archs = {"small": space.smallest(), "middle": space.sample(np.random.default_rng(3)), "large": space.largest()}
    with torch.no_grad():
        for key, value in supernet.named_parameters():
            if key.endswith("_matrix"):
                value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    networks = []
    for key, arch in archs.items():
        network = supernet.extract(arch)
        if name == "conv":
            network = recalibrate(network, images_of(64).split(32)).network
        networks.append(Together(BundleMember(key, arch), network.eval(), images_of()))

    def measured(bundle: Any, folder: Path) -> Any:
        members = [replace(member, held_out_top1=0.5, test_top1=0.5, test_images=100) for member in bundle.members.values()]
        switches = {key: Switch(1.0, 1.0, 1.0, 2.0, 1.0, 3) for key in bundle.names}
        return members, BundleFacts("own", "things", "a device", "a method", 3.0, switches, Sizes(5, 10, 3, 9))

    write_bundle(tmp_path / "b", networks, supernet=supernet, classes=CLASSES, preprocessing=STEPS, measure=measured)
    bundle = onceforall.load_bundle(tmp_path / "b")
    for each in networks:
        compare_logits(each.member.name, reference_of(each.network, each.images), [bundle(each.images, each.member.name)])


def labels(name: str, arch: Any) -> dict[str, list[str | None]]:
    """What is written on each block."""
    supernet = supernet_of(name)
    root = ElementTree.fromstring(draw(supernet.space.lower(arch, supernet.num_classes), arch, title=name))
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class") == "ofa-net-block"]
    tips = [group.findtext(f"{SVG}title") or "" for group in groups]
    return {tip.split("\n")[0]: [node.text for node in group.iter(f"{SVG}text")] for tip, group in zip(tips, groups, strict=True)}


def test_pictures() -> None:
    for name in MODELS:
        space = supernet_of(name).space
        for arch in (space.largest(), space.smallest(), space.sample(np.random.default_rng(0))):
            assert labels(name, arch)
    assert labels("conv", supernet_of("conv").space.largest())["stages.0.0"] == ["5×5", "e1", "48"]
    assert labels("vit", supernet_of("vit").space.largest())["stages.0.1"] == ["4 h", "e1", "64"]
    assert labels("vit", supernet_of("vit").space.smallest())["stages.0.0"] == ["1 h", "e0.25 h0.25", "16"]
    assert labels("convnext", supernet_of("convnext").space.largest())["stages.0.2"] == ["7×7", "e1", "64"]
    assert labels("resnext", supernet_of("resnext").space.largest())["stages.0.1"] == ["3×3", "e1", "64"]
