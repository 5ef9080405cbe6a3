"""`ofa bundle`: networks chosen or named, one folder, proven and measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from onceforall import load_bundle
from onceforall.calibrate import evaluate_network
from onceforall.cli import run as ofa
from onceforall.common.files import read_json, read_lines
from onceforall.common.progress import Progress
from onceforall.common.readable import percent
from onceforall.errors import ArchError, CheckpointError, FileError, VerificationError
from onceforall.export.proof import compare_logits, reference_of
from onceforall.pipeline import Budget, Run, bundle, specialise, status
from onceforall.pipeline import evaluate as evaluate_run
from onceforall.pipeline.evaluate import calibrated


def test_a_bundle_of_searched_and_named_networks(run_copy: Path) -> None:
    steps: list[str] = []
    done = bundle(
        run_copy,
        [Budget(params=40e3)],
        archs=["largest", "random:2"],
        device="cpu",
        finalists=1,
        progress=Progress(say=steps.append),
    )
    made = load_bundle(run_copy / "bundle")
    assert done.folder == run_copy / "bundle"
    assert made.names == ("40k-params", "largest", "random-1", "random-2")
    assert made.plans["40k-params"].params <= 40e3
    assert all(steps)
    run = Run.open(run_copy)
    supernet, splits = run.supernet(), run.splits()
    test = splits.open_test("a test")
    for name, member in made.members.items():
        network = calibrated(run, supernet, member.arch, splits)
        x, _ = next(iter(run.eval_batches(test, member.arch.resolution)))
        compare_logits(name, reference_of(network.network, x), [made(x, name)])
        accuracy = evaluate_network(network, run.eval_batches(test, member.arch.resolution))
        assert (member.test_top1, member.test_images) == (pytest.approx(accuracy.top1), accuracy.images)
        held_out = evaluate_network(network, run.eval_batches(splits.held_out, member.arch.resolution))
        assert member.held_out_top1 == pytest.approx(held_out.top1)
        assert member.latency_ms is not None
        assert 0 < member.latency_ms[1] <= member.latency_ms[0] <= member.latency_ms[2]
        assert (member.device_latency_ms is None) == (name != "40k-params")
    sizes = done.facts.sizes
    assert sizes.disk < sizes.disk_separate
    assert (
        sizes.memory
        < sizes.memory_separate
        == sum(t.numel() * t.element_size() for name in made.names for t in made.network(name).state_dict().values())
    )
    assert sizes.disk == sum((done.folder / name).stat().st_size for name in ("weights.safetensors", "model.py"))
    assert set(done.facts.switches) == set(made.names) == set(done.proofs)
    assert read_json(done.folder / "bundle.json")["facts"]["sizes"]["disk"] == sizes.disk
    assert any("ofa bundle" in line["purpose"] for line in read_lines(run_copy / "test_openings.jsonl"))


def test_networks_specialised_before(run_copy: Path) -> None:
    (own,) = specialise(run_copy, [Budget()], finalists=1, export=["pytorch"])
    name = own.folder.name
    path = Path(shutil.copy(own.folder / "arch.json", run_copy / "mine.json"))
    done = bundle(run_copy, archs=[name, str(path)], out=run_copy / "two")
    assert done.bundle.names == (name, "mine")
    assert [found.arch for found in evaluate_run(run_copy, arch=name)] == [own.arch]
    assert done.bundle.members[name].arch == done.bundle.members["mine"].arch == own.arch
    assert done.bundle.members[name].test_top1 == pytest.approx(own.test.top1)
    x = torch.rand(2, 3, own.arch.resolution, own.arch.resolution)
    np.testing.assert_array_equal(done.bundle(x, name), done.bundle(x, "mine"))


def test_weights_that_are_not_the_supernets(run_copy: Path) -> None:
    (own,) = specialise(run_copy, [Budget()], finalists=1, export=["pytorch"])
    from safetensors.torch import load_file, save_file

    tensors = load_file(own.folder / "weights.safetensors")
    tensors["head.classifier.weight"] *= 1.01
    save_file(tensors, own.folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"not the supernet's .* give --arch .*arch\.json"):
        bundle(run_copy, archs=[str(own.folder)])
    assert not (run_copy / "bundle").exists()
    bundle(run_copy, archs=[str(own.folder / "arch.json")])


def test_wrong_networks(run_copy: Path, trained: Path) -> None:
    with pytest.raises(ArchError, match="no networks for the bundle"):
        bundle(run_copy)
    with pytest.raises(ArchError, match="two networks of the bundle would be called 'largest'"):
        bundle(run_copy, archs=["largest", "largest"])
    with pytest.raises(ArchError, match="two networks of the bundle would be called '5ms'"):
        bundle(run_copy, [Budget(latency_ms=5), Budget(latency_ms=5.0001)])
    for text in ("onnxruntime-5ms", "", "random:0"):
        with pytest.raises((ArchError, FileError)):
            bundle(run_copy, archs=[text])
    with pytest.raises(FileError, match="predict"):
        bundle(trained, [Budget(params=1e6)])


def test_a_network_that_computes_something_else_fails_the_command(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real proof, on weights that were changed after the networks were calibrated."""
    from onceforall.export import bundle_folder
    from onceforall.nn import shared

    def changed(tensors: dict[str, torch.Tensor], plans: list) -> dict[str, torch.Tensor]:
        found = shared.share(tensors, plans)
        return found | {"head.classifier.weight": found["head.classifier.weight"] * 1.01}

    monkeypatch.setattr(bundle_folder, "share", changed)
    assert ofa(["bundle", str(run_copy), "--arch", "smallest"]) == 1
    err = capsys.readouterr().err
    assert "ofa: smallest of the bundle, read by onceforall.load_bundle: does not compute what the network computes" in err
    assert not (run_copy / "bundle").exists()
    with pytest.raises(VerificationError):
        bundle(run_copy, archs=["smallest"])


def test_status_tells_of_it(run_copy: Path) -> None:
    bundle(run_copy, archs=["smallest"])
    index = run_copy / "bundle" / "bundle.json"
    (part,) = [part for part in status(run_copy).parts if part.name == "bundle"]
    top1 = percent(read_json(index)["members"][0]["test_top1"])
    assert (part.state, part.text) == ("done", f"{index.parent}: test top-1 of 1 network: smallest {top1}")
    for content in ("{", "[]", '{"members": [1]}'):
        index.write_text(content)
        (part,) = [part for part in status(run_copy).parts if part.name == "bundle"]
        assert part.state == "damaged"
        assert part.text.startswith(f"{index}: ")
        assert part.text.endswith("make it again with ofa bundle")


def test_the_command(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ofa(["bundle", str(run_copy), "--arch", "smallest,largest", "--out", str(run_copy / "b")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{run_copy / 'b'}: 2 networks, ")
    assert "smallest: 16 px, test top-1 " in out
    assert "loaded from disk" in out
    assert ofa(["bundle", str(run_copy), "--arch", "largest", "--out", str(run_copy / "b"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [member["name"] for member in record["members"]] == ["largest"]
    assert record["facts"]["switches"]["largest"]["anew"] > 0
    assert ofa(["bundle", str(run_copy)]) == 1
    assert "no networks for the bundle" in capsys.readouterr().err
    assert ofa(["bundle", str(run_copy), "--arch", "largest", "--out", str(run_copy)]) == 1
    assert "choose another folder" in capsys.readouterr().err
