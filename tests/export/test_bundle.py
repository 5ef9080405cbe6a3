"""Bundles: written whole, proven, read again; damaged ones are refused in one line."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import onceforall
from onceforall.calibrate import recalibrate
from onceforall.common.files import write_json
from onceforall.errors import ArchError, CheckpointError, DataError, FileError, InfeasibleError, SpaceError, VerificationError
from onceforall.export import BundleFacts, BundleMember, InputSteps, Sizes, Switch, Together, load_bundle, write_bundle
from onceforall.export.proof import compare_logits, reference_of

SPACE = onceforall.space("mobilenet_v3", width=0.25, resolutions=(20, 28), depths=(1, 2), strides=(1, 1, 2, 2, 1, 1, 2))
CLASSES = tuple(f"digit {i}" for i in range(10))
STEPS = InputSteps((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), 0.875, "short side to ceil(resolution / 0.875), bilinear; centre crop")
FILES = {"README.md", "bundle.json", "model.py", "preprocess.py", "weights.safetensors"}


@pytest.fixture(scope="session")
def supernet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return onceforall.Supernet(SPACE, num_classes=10)


def together(supernet):
    rng = np.random.default_rng(5)
    archs = {"small": SPACE.smallest(), "middle": replace(SPACE.sample(rng), resolution=28), "large": SPACE.largest()}
    found = []
    for name, arch in archs.items():
        images = torch.rand(64, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(0))
        network = recalibrate(supernet.extract(arch), images.split(32)).network
        found.append(Together(BundleMember(name, arch), network, images))
    return found


def measured(bundle, folder):
    numbers = {"small": (0.8, 1.0), "middle": (0.9, 2.0), "large": (0.9, 3.0)}
    members = [
        replace(m, held_out_top1=numbers[n][0], test_top1=0.85, test_images=360, latency_ms=(numbers[n][1], 0.9, 3.1))
        for n, m in bundle.members.items()
    ]
    switches = {name: Switch(30.0, 1.2, 1.1, 55.0, 1.15, 9) for name in bundle.names}
    facts = BundleFacts(
        "digits, 3 networks", "hand<b>written", "pytorch:threads=1,batch=1", "a laptop", 3.0, switches, Sizes(5, 10, 3, 9)
    )
    return members, replace(facts, made_with=["ofa bundle runs/digits"], notes=["a note"])


def write(folder, supernet, networks=None, measure=measured):
    networks = together(supernet) if networks is None else networks
    return write_bundle(folder, networks, supernet=supernet, classes=CLASSES, preprocessing=STEPS, measure=measure)


@pytest.fixture(scope="session")
def networks(supernet):
    return together(supernet)


@pytest.fixture(scope="session")
def made(supernet, networks, tmp_path_factory):
    """A bundle that no test may change."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    write(folder, supernet, networks)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def test_each_network_is_the_extracted_one(made, networks):
    bundle = onceforall.load_bundle(str(made))
    assert bundle.names == ("small", "middle", "large")
    assert bundle.config.classes == CLASSES
    for each in networks:
        network = bundle.network(each.member.name)
        assert network is bundle.network(each.member.name)
        assert not any(p.requires_grad for p in network.parameters())
        logits = [network(each.images), bundle(each.images, each.member.name)]
        compare_logits(each.member.name, reference_of(each.network, each.images), logits)


def test_threads_run_several_networks_at_once(made, networks):
    bundle = load_bundle(made)
    jobs = [each for _ in range(6) for each in networks]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: bundle(each.images, each.member.name), jobs))
    for each, logits in zip(jobs, found, strict=True):
        torch.testing.assert_close(logits, bundle(each.images, each.member.name), rtol=0, atol=0)


def test_tensors_are_stored_once(made, networks, supernet):
    tensors = load_file(made / "weights.safetensors")
    numbers = sum(value.numel() for name, value in tensors.items() if "/" not in name)
    params = [SPACE.lower(each.member.arch, 10).params for each in networks]
    matrices = sum(value.numel() for name, value in supernet.state_dict().items() if name.endswith("matrix"))
    assert params[2] <= numbers <= params[2] + matrices
    bundle = load_bundle(made)
    places = [{t.untyped_storage().data_ptr() for t in bundle.network(name).parameters()} for name in bundle.names]
    kernels = {t.untyped_storage().data_ptr() for name in bundle.names for t in bundle.network(name).parameters() if t.ndim == 4}
    assert not (places[0] - places[2]) - kernels


def test_the_file_needs_torch_only(made, networks, tmp_path):
    """In a process without onceforall."""
    each = networks[1]
    np.save(tmp_path / "x.npy", each.images.numpy())
    code = """
import sys, numpy as np, torch
sys.modules["onceforall"] = sys.modules["safetensors"] = None
from model import RESOLUTIONS, Bundle
x = torch.from_numpy(np.load(sys.argv[2]))
assert RESOLUTIONS["middle"] == x.shape[-1]
with torch.no_grad():
    np.save(sys.argv[2], Bundle(sys.argv[1]).network("middle")(x).numpy())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(made / "weights.safetensors"), str(tmp_path / "x.npy")],
        capture_output=True, text=True, check=False, cwd=made, env={"PYTHONPATH": str(made), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compare_logits("model.py", reference_of(each.network, each.images), [torch.from_numpy(np.load(tmp_path / "x.npy"))])


def test_the_best_within_limits(made):
    bundle = load_bundle(made)
    plans = bundle.plans
    assert bundle.under(latency_ms=3) == bundle.under() == "middle"  # as accurate as the large one, and faster
    assert bundle.under(latency_ms=1) == "small"
    assert bundle.under(params=plans["small"].params) == bundle.under(macs=plans["small"].macs) == "small"
    assert bundle.under(latency_ms=2.5, memory_bytes=plans["large"].peak_memory_bytes) == "middle"
    with pytest.raises(InfeasibleError, match=r"is within 0\.500 ms \(latency\): the smallest is 1\.00 ms"):
        bundle.under(latency_ms=0.5)
    with pytest.raises(InfeasibleError, match=r"is within 3 \(MACs\): the smallest is"):
        bundle.under(macs=3)


def test_latencies_that_were_not_measured(supernet, networks, tmp_path):
    def measure(bundle, folder):
        members, facts = measured(bundle, folder)
        return [replace(m, latency_ms=None) for m in members], facts

    bundle, _, _ = write(tmp_path / "b", supernet, networks, measure)
    with pytest.raises(InfeasibleError, match="none was measured"):
        bundle.under(latency_ms=9)
    assert bundle.under() == "middle"


def test_wrong_names_and_images(made):
    bundle = load_bundle(made)
    for call in (lambda: bundle.network("5ms"), lambda: bundle(torch.zeros(1, 3, 20, 20), "5ms")):
        with pytest.raises(ArchError, match=r"no network '5ms' in this bundle: choose from small, middle, large"):
            call()
    with pytest.raises(DataError, match=r"images of shape \(1, 3, 28, 28\): small takes \(n, 3, 20, 20\)"):
        bundle(torch.zeros(1, 3, 28, 28), "small")


def test_the_folder_and_its_card(made):
    assert {path.name for path in made.iterdir()} == FILES
    assert {path.name for path in made.parent.iterdir()} == {"bundle"}
    card = (made / "README.md").read_text()
    for text in (
        "| small | 20 |",
        "85.0 % (80.9 – 88.3)",
        "30.0 ms",
        "55.0 ms",
        "hand\\<b\\>written",
        "a note",
        "`ofa bundle runs/digits`",
    ):
        assert text in card, text
    assert card.count("| extracted network |") == card.count("| sub-network of the supernet |") == 6
    data = json.loads((made / "bundle.json").read_text())
    assert data["members"][0]["macs"] == SPACE.lower(SPACE.smallest(), 10).macs
    found = data["proofs"]["large"]["model.py"]["extracted"]
    assert found["max_abs_diff"] <= found["rounding"] < 1e-4 * found["largest_logit"]
    head = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.S).group(1))
    assert head["tags"] == ["once-for-all", "mobilenet_v3"]
    assert [one["name"] for one in head["model-index"]] == [f"digits, 3 networks: {name}" for name in data["proofs"]]


def test_a_network_that_is_not_of_the_supernet_is_no_bundle(supernet, tmp_path):
    networks = together(supernet)
    with torch.no_grad():
        networks[2].network.get_parameter("head.classifier.weight").mul_(1.01)
    with pytest.raises(VerificationError, match=r"large of the bundle, read by onceforall\.load_bundle: does not compute"):
        write(tmp_path / "b", supernet, networks)
    assert not list(tmp_path.iterdir())
    with pytest.raises(VerificationError, match="small is in train mode"):
        write(tmp_path / "b", supernet, [replace(networks[0], network=networks[0].network.train())])


@pytest.mark.parametrize("error", [KeyboardInterrupt, VerificationError])
def test_what_stops_it_leaves_the_earlier_one(supernet, networks, folder, error):
    before = (folder / "bundle.json").read_bytes()

    def measure(bundle, place):
        raise error("stop")

    with pytest.raises(error):
        write(folder, supernet, networks, measure)
    assert (folder / "bundle.json").read_bytes() == before
    assert {path.name for path in folder.parent.iterdir()} == {"bundle"}
    write(folder, supernet, networks[:1])
    assert load_bundle(folder).names == ("small",)


@pytest.mark.parametrize("content", [{"thesis.tex": ""}, {"README.md": "mine"}, {"bundle.json": '{"format": "other"}'}])
def test_other_folders_are_left_alone(supernet, networks, tmp_path, content):
    (tmp_path / "b").mkdir()
    for name, text in content.items():
        (tmp_path / "b" / name).write_text(text)
    with pytest.raises(FileError, match=r"choose another|not a bundle"):
        write(tmp_path / "b", supernet, networks)
    assert {path.name: path.read_text() for path in (tmp_path / "b").iterdir()} == content


def test_names(supernet, networks, tmp_path):
    for name in ("", "a/b", ".", "../up", "a b", "ä", 5, None):
        with pytest.raises(FileError, match="a network cannot be named"):
            BundleMember(name, SPACE.smallest())
    with pytest.raises(FileError, match="a name of its own"):
        write(tmp_path / "b", supernet, [networks[0], networks[0]])
    with pytest.raises(FileError, match="one network or more"):
        write(tmp_path / "b", supernet, [])


FULL = """
import sys
from pathlib import Path
from test_bundle import SPACE, together, write
import onceforall
supernet = onceforall.Supernet(SPACE, num_classes=10)
from onceforall.errors import FileError
try:
    write(Path(sys.argv[1]) / "b", supernet, together(supernet))
except FileError as error:
    print(error, *Path(sys.argv[1]).iterdir())
"""


def test_a_full_disk_leaves_nothing(tmp_path):
    """A small file system in memory, mounted in a namespace of its own."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o size=100k tmpfs "$1" || exit 90; exec "$2" -c "$3" "$1"'
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets users mount nothing")
    paths = [*(path for path in sys.path if path), str(Path(__file__).parent)]
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    if done.returncode == 90:
        pytest.skip("this machine lets users mount nothing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("run the command again (ofa train: with --resume)"), done.stdout


# -- damage ----------------------------------------------------------------------------------------------------------------


def change(folder, **changes):
    data = json.loads((folder / "bundle.json").read_text())
    write_json(folder / "bundle.json", data | changes)


def change_weights(folder, **changes):
    """With a sum that fits, so that what is inside is looked at."""
    path = folder / "weights.safetensors"
    tensors = {name: value for name, value in (load_file(path) | changes).items() if value is not None}
    save_file(tensors, path)
    change(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_damaged_and_missing_files(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged, or not the weights of"):
        load_bundle(folder)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_bundle(folder)
    path.write_bytes(b"no tensors")
    change(folder, weights_sha256=hashlib.sha256(b"no tensors").hexdigest())
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(FileError, match=r"weights\.safetensors: no such file"):
        load_bundle(folder)
    (folder / "bundle.json").write_text("{")
    with pytest.raises(FileError, match=r"bundle\.json: not JSON"):
        load_bundle(folder)
    (folder / "bundle.json").unlink()
    with pytest.raises(FileError, match=r"bundle\.json: no such file"):
        load_bundle(folder)
    with pytest.raises(FileError, match=r"nowhere: no such file or folder: check the path"):
        load_bundle(folder / "nowhere")


def test_missing_tensors(folder):
    name = "head.classifier.bias"
    change_weights(folder, **{name: None})
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: head\.classifier\.bias is missing: make the bundle again"):
        load_bundle(folder)
    change_weights(folder, **{name: torch.full((10,), torch.nan)})
    with pytest.raises(CheckpointError, match=r"head\.classifier\.bias holds values that are not finite"):
        load_bundle(folder)
    change_weights(folder, **{name: torch.zeros(10), "small/stem.first.norm.running_mean": None})
    with pytest.raises(CheckpointError, match=r"small/stem\.first\.norm\.running_mean is missing or not of shape"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "onceforall.bundle/9"}, "onceforall.bundle/1"),
        ({"members": {}}, "list of members is missing"),
        ({"members": []}, "needs one network or more"),
        ({"members": [3]}, "its content is 3, and an object is expected"),
        ({"config": {}}, "not the config of an exported network"),
    ],
)
def test_a_wrong_index(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(FileError, match=rf"bundle\.json: .*{message}"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "cannot be named '../x'"),
        ({"name": "large"}, "a name of its own"),
        ({"test_top1": "high"}, "test_top1 is 'high', and a number is expected"),
        ({"latency_ms": [1, 2]}, "latency_ms has 2 values, and 3 are expected"),
        ({"latency_ms": [1, 2, None]}, r"latency_ms\[2\] is None, and a number is expected"),
        ({"arch": {}}, "expected an object"),
        ({"arch": json.loads(onceforall.space("mobilenet_v3").largest().to_json())}, "bundle.json"),
    ],
)
def test_a_wrong_member(folder, changes, message):
    members = json.loads((folder / "bundle.json").read_text())["members"]
    change(folder, members=[members[0] | changes, *members[1:]])
    with pytest.raises((FileError, SpaceError), match=message):
        load_bundle(folder)
