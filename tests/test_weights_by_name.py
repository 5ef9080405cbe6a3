"""Trained weights by name, from servers on loopback: of torchvision, timm, the Hub and the Once-for-All authors."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import Tensor, nn

from file_server import COMMIT, FileServer, git_id, stored
from onceforall import Supernet
from onceforall.arch import Arch
from onceforall.common.files import sha256
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, FileError, ModelError, SpaceError
from onceforall.models import Weights, bring
from onceforall.pipeline.training.own import bring_own, require_logits, started
from onceforall.published import files as published
from onceforall.published import published_name, published_space, save_specialized
from onceforall.published.files import published_files
from tiny_original import original_weights

NET, IDS = "torchvision:squeezenet1_1", "raw.githubusercontent.com/han-cai/files"
SUPERNET, SPECIAL = "ofa_mbv3_d234_e346_k357_w1_0", "note10_lat-11ms_top1-73.6_finetune-25"


def same(a: nn.Module, b: dict[str, Tensor]) -> bool:
    own = a.state_dict()
    return own.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in own.items())


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def refused(text: str, error: type[Exception], message: str, **arguments: Any) -> None:
    with pytest.raises(error, match=message) as raised:
        bring(text, **arguments)
    assert "\n" not in str(raised.value)


# -- torchvision ---------------------------------------------------------------------------------------------------------------


ENTRY = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1


def test_torchvision_by_name(mirror: FileServer, tmp_path: Path) -> None:
    state = bring(NET, "random", seed=1).model.state_dict()
    assert not mirror.asked
    events: list[dict[str, Any]] = []
    with stored(ENTRY, saved(state), mirror) as url:
        found = bring(NET, progress=Progress(event=events.append))
        place = tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
        assert same(found.model, state)
        assert found.weights == Weights(place.name, sha256(place), None, url)
        assert (found.notes, found.unfilled) == ((), {})
        assert (found.crop_share, found.interpolation, found.mean) == (0.875, "bilinear", (0.485, 0.456, 0.406))
        assert events[-1]["done"] == events[-1]["total"] == place.stat().st_size
        assert same(bring(f"{NET}.IMAGENET1K_V1").model, state)
        assert len(mirror.asked) == 1  # the second time it is there
        assert bring(NET, "random").weights.random
        place.write_bytes(place.read_bytes()[:-5])
        refused(NET, FileError, r"net-\w+.pth: is not http\S+ \(its sha256 is .*delete it to download it again")


def test_torchvision_refused(mirror: FileServer) -> None:
    state = bring(NET, "random").model.state_dict()
    with stored(ENTRY, saved({**state, "x": nn.Linear}), mirror):
        refused(NET, CheckpointError, "holds more than tensors .*refused because it could run code")
    with stored(ENTRY, saved({"classifier.1.bias": torch.zeros(9)}), mirror):
        refused(NET, ModelError, r"'torchvision:squeezenet1_1' cannot be made: RuntimeError: .*Missing key")
    with stored(ENTRY, b"the real ones", mirror) as url:
        mirror.files = dict.fromkeys(mirror.files, b"others")
        refused(NET, FileError, r"the downloaded file is wrong \(its sha256 is \w{8}, not \w{8}\): it was changed there")
        mirror.files = {}
        refused(NET, FileError, rf"{url.rpartition('/')[2]} \(5.0 MB\): the server answers 404 Not Found: get the file elsewhere")


def test_a_licence_that_forbids_commercial_use(mirror: FileServer) -> None:
    terms = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"
    with stored(ENTRY, saved(bring(NET, "random").model.state_dict()), mirror, license=terms):
        found = bring(NET)
    assert found.weights.license == terms
    assert found.notes == (
        f"the license of these weights, {terms}, forbids commercial use, perhaps also of networks trained from them",
    )
    for license in ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "fair-noncommercial-research-license", "apple-amlr", "CC BY NC 4.0"):
        assert Weights("w", "0", license).notes
    for free in (None, "apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "apple-ascl", "nvidia-open-model-license"):
        assert not Weights("w", "0", free).notes


def test_random_weights_are_not_a_function_s(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef net(): return nn.Linear(3, 2)\n")
    refused(
        f"{tmp_path / 'own.py'}:net",
        ModelError,
        "own.py:net decides on its weights itself: omit --weights random",
        weights="random",
    )


# -- the Once-for-All authors --------------------------------------------------------------------------------------------------


def publish(mirror: FileServer, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """The mirror has these files, and the table their object ids."""
    ours = tuple(replace(file, git=git_id(contents.get(file.path, b"none"))) for file in published.FILES)
    monkeypatch.setattr(published, "FILES", ours)
    monkeypatch.setitem(published.SPECIALIZED, SPECIAL, tuple(file for file in ours if SPECIAL in file.path))
    mirror.files = {f"/{IDS}/{published.COMMIT}/ofa/{path}": content for path, content in contents.items()}


def test_names_of_the_authors() -> None:
    assert len(published.SPECIALIZED) == 50
    assert len({file.git for file in published.FILES if file.path.endswith("init") or "ofa_nets" in file.path}) == 53
    assert (
        published_name("ofa_mbv3_d234_e346_k357_w1.2") == published_name("ofa_supernet_mbv3_w12") == "ofa_mbv3_d234_e346_k357_w1_2"
    )
    assert published_name("note10_lat@11ms_top1@73.6_finetune@25") == SPECIAL
    assert [Path(file.path).name for file in published_files(SPECIAL)] == ["init", "net.config", "run.config"]
    for name in published.SPECIALIZED:
        assert {Path(file.path).parent.name for file in published_files(name)} == {name}
    (file,) = published_files("ofa_proxyless_d234_e346_k357_w1_3")
    assert file.url.endswith("/ofa/ofa_nets/ofa_proxyless_d234_e346_k357_w1.3")
    refused("ofa:ofa_resnet51", ModelError, "the authors published no such network: did you mean ofa_resnet50")
    refused(
        "ofa:x", ModelError, "no such network: the supernets are ofa_mbv3_d234_e346_k357_w1_0, .*of the 50 specialized ones, one is"
    )


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return original_weights(SUPERNET, 1000)


def test_a_supernet_of_the_authors(mirror: FileServer, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Tensor]) -> None:
    path = "ofa_nets/ofa_mbv3_d234_e346_k357_w1.0"
    publish(mirror, monkeypatch, {path: saved({"state_dict": weights})})
    own = bring_own("ofa:ofa_supernet_mbv3_w10", resolutions=(32, 48))
    require_logits(own)
    assert len(mirror.asked) == 1
    assert own.supernet.space.resolutions == (32, 48)
    assert torch.equal(own.supernet.state_dict()["head.classifier.weight"], weights["classifier.linear.weight"])
    info = own.info(classifier=False)
    address = f"https://{IDS}/{published.COMMIT}/ofa/{path}"
    assert (info.source, info.license, info.address) == (f"ofa:{SUPERNET}", "mit", address)
    assert f"weights {address} (sha256 {hashlib.sha256(mirror.files[mirror.asked[0][1]]).hexdigest()}), with a new" in str(info)
    fresh = Supernet(own.supernet.space, 10)
    start, classifier = started(own, fresh)
    assert not classifier
    assert torch.equal(start["head.classifier.weight"], fresh.state_dict()["head.classifier.weight"])
    assert torch.equal(start["stem.first.conv.weight"], own.supernet.state_dict()["stem.first.conv.weight"])
    assert len(bring_own("ofa:ofa_mbv3_d234_e346_k357_w1.0").supernet.space.resolutions) == 25
    with pytest.raises(SpaceError, match=r"has its own space, in which only resolutions can be chosen: leave depths out"):
        bring_own(f"ofa:{SUPERNET}", choices={"depths": (2,)})
    assert bring(f"ofa:{SUPERNET}", "random").weights.random
    assert len(mirror.asked) == 1


def test_a_supernet_s_file(mirror: FileServer, tmp_path: Path, weights: dict[str, Tensor]) -> None:
    head = {name: value[:4].clone() for name, value in weights.items() if name.startswith("classifier")}
    weights = {**weights, **head}
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    found = bring(f"ofa:{SUPERNET}", tmp_path / "w.pth")
    assert isinstance(found.model, Supernet)
    assert found.model.num_classes == 4
    assert found.weights == Weights("w.pth", sha256(tmp_path / "w.pth"))
    refused("ofa:ofa_proxyless_d234_e346_k357_w1.3", CheckpointError, "w.pth: ", weights=tmp_path / "w.pth")
    assert not mirror.asked
    refused(f"ofa:{SUPERNET}", FileError, r"needs http://\S+/ofa_nets/ofa_mbv3_d234_e346_k357_w1.0: the server answers 404")


def test_a_supernet_that_is_on_the_hub(
    hub_of_files: FileServer, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Tensor]
) -> None:
    assert list(published.ON_HUB) == ["ofa_resnet50"]
    monkeypatch.setitem(published.ON_HUB, SUPERNET, ("me/ofa", "net"))  # which is smaller
    content = saved({"state_dict": weights})
    hub_of_files.publish("me/ofa", net=content)
    found = bring(f"ofa:{SUPERNET}")
    address = f"{hub_of_files.address}/me/ofa/resolve/{COMMIT}/net"
    assert found.weights == Weights("net", hashlib.sha256(content).hexdigest(), "mit", address)


@pytest.fixture
def special(tmp_path: Path) -> tuple[dict[str, bytes], nn.Module]:
    """The files of a specialised network, and the network."""
    space = published_space(SUPERNET)
    arch: Arch = replace(space.smallest(), resolution=160)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Supernet(space, 1000).eval().extract(arch)
    folder = save_specialized(tmp_path / "made", space, arch, network)
    return {f"ofa_specialized/{SPECIAL}/{path.name}": path.read_bytes() for path in folder.iterdir()}, network


def test_a_specialised_network(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, special: tuple[dict[str, bytes], nn.Module], tmp_path: Path
) -> None:
    contents, network = special
    publish(mirror, monkeypatch, contents)
    random = bring(f"ofa:{SPECIAL}", "random")
    assert (random.weights.random, len(mirror.asked)) == (True, 2)  # its configuration
    found = bring(f"ofa:{SPECIAL.replace('-', '@')}")
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(found.model(images), network(images))
        assert not torch.allclose(random.model(images), network(images))
    assert (found.source, found.pixels, found.weights.file, len(mirror.asked)) == (f"ofa:{SPECIAL}", 160, "init", 3)
    given = bring(f"ofa:{SPECIAL}", tmp_path / "made" / "init")
    assert same(given.model, found.model.state_dict())
    assert given.weights.address is None


def test_a_specialised_network_out_of_reach(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, special: tuple[dict[str, bytes], nn.Module], tmp_path: Path
) -> None:
    text = r"/net.config: the server answers 404 Not Found: put net.config, run.config and init into one folder and give"
    refused(f"ofa:{SPECIAL}", FileError, text + " --weights FOLDER/init")
    assert bring(f"ofa:{SPECIAL}", tmp_path / "made" / "init").weights.file == "init"  # all that it needs is there
    publish(mirror, monkeypatch, special[0])
    name = f"/{IDS}/{published.COMMIT}/ofa/ofa_specialized/{SPECIAL}/init"
    mirror.files[name] += b"more"
    refused(f"ofa:{SPECIAL}", FileError, r"/init: the downloaded file is wrong \(its git object id is \w{40}, not \w{40}\)")


# -- timm and the Hub ----------------------------------------------------------------------------------------------------------


def timm_state(name: str = "test_byobnet", seed: int = 1) -> dict[str, Tensor]:
    return bring(f"timm:{name}", "random", seed=seed).model.state_dict()


def test_timm_by_name(hub_of_files: FileServer) -> None:
    state, hub = timm_state(), hub_of_files
    assert not hub.asked
    hub.publish("timm/test_byobnet.r160_in1k", model__safetensors=save(state), README__md=b"---\nlicense: apache-2.0\n---\n")
    found = bring("timm:test_byobnet")
    assert same(found.model, state)
    address = f"{hub.address}/timm/test_byobnet.r160_in1k/resolve/{COMMIT}/model.safetensors"
    assert found.weights == Weights("model.safetensors", hashlib.sha256(save(state)).hexdigest(), "apache-2.0", address)
    hub.files = {}
    assert same(bring("timm:test_byobnet.r160_in1k").model, state)  # from the cache
    refused(
        "timm:test_vit", FileError, r"'timm:test_vit' needs http\S+: the Hub has no repository timm/test_vit.r160_in1k, or hides it"
    )


def test_timm_has_only_a_pickle_of_tensors(hub_of_files: FileServer) -> None:
    state = timm_state("test_resnet")
    hub_of_files.publish("timm/test_resnet.r160_in1k", pytorch_model__bin=saved(state))
    assert same(bring("timm:test_resnet").model, state)
    hub_of_files.publish("timm/test_vit.r160_in1k", pytorch_model__bin=saved({**timm_state("test_vit"), "x": nn.Linear}))
    refused("timm:test_vit", CheckpointError, "pytorch_model.bin: holds more than tensors .*refused because it could run code")
    hub_of_files.publish("timm/test_vit2.r160_in1k", README__md=b"none")
    refused(
        "timm:test_vit2", ModelError, "timm/test_vit2.r160_in1k has neither model.safetensors nor pytorch_model.bin: get the file"
    )


def test_timm_without_weights() -> None:
    refused("timm:test_vit4", ModelError, r"timm has no weights of test_vit4: give --weights FILE or --weights random")
    assert bring("timm:test_vit4", "random").weights.random


def test_a_licence_of_timm_that_forbids_commercial_use(hub_of_files: FileServer) -> None:
    name = "convnextv2_atto.fcmae_ft_in1k"
    hub_of_files.publish(f"timm/{name}", model__safetensors=save(timm_state("convnextv2_atto")))
    assert "cc-by-nc-4.0, forbids commercial use" in bring(f"timm:{name}").notes[0]


CONFIGS = {
    "of old": lambda settings: {"architecture": "test_byobnet", "num_classes": 7, **settings},
    "nested": lambda settings: {"architecture": "test_byobnet", "num_classes": 7, "pretrained_cfg": settings},
}


@pytest.mark.parametrize("form", CONFIGS)
def test_a_repository_of_the_hub(hub_of_files: FileServer, form: str) -> None:
    state = timm_state()
    state["head.fc.weight"], state["head.fc.bias"] = state["head.fc.weight"][:7].clone(), state["head.fc.bias"][:7].clone()
    settings = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "input_size": [3, 96, 96],
        "classifier": "head.fc",
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    settings |= {"custom_load": True, "file": "/etc/passwd", "url": "http://127.0.0.1:9/x"}  # what a stranger may write
    card = b"---\nlicense: cc-by-nc-4.0\ntags:\n- image-classification\n---\n# A network\n"
    config = json.dumps(CONFIGS[form](settings)).encode()
    hub_of_files.publish("me/net", model__safetensors=save(state), config__json=config, README__md=card)
    random = bring("hf:me/net", "random")
    assert {path for _, path, _ in hub_of_files.asked} == {"/me/net/resolve/main/config.json"}
    assert random.weights.random
    found = bring("hf:me/net")
    assert same(found.model, state)
    assert (found.mean, found.std, found.pixels) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 96)
    assert (found.crop_share, found.interpolation) == (0.9, "bicubic")
    assert found.weights.license == "cc-by-nc-4.0"
    assert "forbids commercial use" in found.notes[0]
    hub_of_files.files = {}
    assert same(bring("hf:me/net").model, state)
    assert bring("hf:me/net").weights == found.weights


def test_repositories_that_are_refused(hub_of_files: FileServer) -> None:
    hub = hub_of_files
    hub.publish("me/none", README__md=b"nothing")
    hub.publish("me/other", config__json=json.dumps({"architectures": ["ViTForImageClassification"]}).encode())
    hub.publish("me/wrong", config__json=json.dumps({"architecture": "test_byobnets"}).encode())
    hub.publish("me/bare", config__json=json.dumps({"architecture": "test_byobnet"}).encode())
    hub.publish(
        "me/vit",
        config__json=json.dumps({"architecture": "test_byobnet"}).encode(),
        model__safetensors=save(timm_state("test_vit")),
    )
    for repository, error, message in (
        ("me", ModelError, "names no repository: give hf:USER/REPO"),
        ("me/net/more", ModelError, "names no repository"),
        (
            "me/gone",
            FileError,
            "the Hub has no repository me/gone, .*, or name its architecture by timm:NAME and give its weights with --weights FILE",
        ),
        ("me/none", ModelError, "'hf:me/none': has no config.json, so it is not in timm's format"),
        ("me/other", ModelError, "its config.json names no architecture"),
        ("me/wrong", ModelError, "timm has no model 'test_byobnets': did you mean test_byobnet"),
        ("me/bare", ModelError, "me/bare has neither model.safetensors nor pytorch_model.bin: get the file elsewhere"),
        ("me/vit", ModelError, "'hf:me/vit' cannot be made: RuntimeError: .*Missing key"),
    ):
        refused(f"hf:{repository}", error, message)
