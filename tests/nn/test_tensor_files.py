"""Reading others' checkpoints: all formats, and nothing but one-line errors for whatever else a file may be."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from onceforall.errors import CheckpointError
from onceforall.nn.tensor_files import read_tensors

TENSORS = {
    "a.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "a.bias": torch.tensor([1e-40, -2.5]),
    "n": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def saved(value: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


FORMATS = {"zip": saved(TENSORS), "legacy": saved(TENSORS, legacy=True), "safetensors": to_safetensors(TENSORS)}
VALUES: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (lambda: [torch.ones(2)], "holds a list, not tensors by name: save the network's state_dict"),
    "tensor": (lambda: torch.ones(2), "holds a Tensor, not tensors by name"),
    "empty": (dict, "holds an empty dict"),
    "number": (lambda: {"epoch": 3}, "'epoch' is of type int, not a tensor"),
    "nested": (lambda: {"weights": dict(TENSORS)}, "'weights' is of type dict, not a tensor"),
    "numbered": (lambda: {0: torch.ones(2)}, "a name is 0, not a text"),
    "nan": (lambda: {"x": torch.tensor([1.0, float("nan")])}, "'x' holds values that are not finite"),
    "inf": (lambda: {"x": torch.tensor(float("-inf"), dtype=torch.float16)}, "'x' holds values that are not finite"),
    "sparse": (lambda: {"x": torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)}, "'x' is a tensor without plain"),
    "meta": (lambda: {"x": torch.ones(2, device="meta")}, "'x' is a tensor without plain"),
    "wide": (lambda: {"x": torch.ones(1).expand(10**13)}, "'x' is larger than the file"),
    "module": (lambda: nn.Linear(2, 2), "holds more than tensors .*Linear.*, refused"),
    "code in it": (lambda: {"x": torch.ones(2), "f": Path("x")}, "holds more than tensors .*refused because it could run code"),
}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad
        assert tensor.dtype == wanted[name].dtype
        assert torch.equal(tensor, wanted[name])


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_every_format(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    same(read_tensors(path), TENSORS)
    same(read_tensors(str(path)), TENSORS)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_scripts_save(legacy: bool, tmp_path: Path) -> None:
    path, network = tmp_path / "weights.pth", nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    state = {"epoch": 3, "best_acc": 0.5, "optimizer": optimizer.state_dict(), "state_dict": network.state_dict()}
    parameters = OrderedDict(network.named_parameters())
    for value, wanted in ((state, network.state_dict()), (parameters, {n: p.detach() for n, p in parameters.items()})):
        path.write_bytes(saved(value, legacy))
        same(read_tensors(path), dict(wanted))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", VALUES)
def test_other_contents(case: str, legacy: bool, tmp_path: Path) -> None:
    make, message = VALUES[case]
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(make(), legacy))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def attacks(target: Path) -> dict[str, bytes]:
    files = {"zip": saved({"x": Attack(target)}), "legacy": saved({"x": Attack(target)}, legacy=True)}
    files["pickle"] = pickle.dumps(Attack(target))
    files["text pickle"] = pickle.dumps(Attack(target), protocol=0)
    files["eval"] = b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + str(target).encode() + b"\")'\ntR."
    swapped = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FORMATS["zip"])) as good, zipfile.ZipFile(swapped, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, pickle.dumps(Attack(target), 2) if name.endswith("data.pkl") else good.read(name))
    return {**files, "swapped": swapped.getvalue()}


@pytest.mark.parametrize("case", ["zip", "legacy", "pickle", "text pickle", "eval", "swapped"])
def test_nothing_is_ever_run(case: str, tmp_path: Path) -> None:
    path, target = tmp_path / "weights.pth", tmp_path / "attacked"
    content = attacks(target)[case]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"refused because it could run code|not a checkpoint of torch") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    if case in ("zip", "legacy", "swapped"):
        assert "holds more than tensors (" in str(caught.value)


def test_the_attacks_would_work(tmp_path: Path) -> None:
    for case in ("pickle", "text pickle", "eval"):
        target = tmp_path / case.replace(" ", "-")
        pickle.loads(attacks(target)[case])
        assert target.exists()


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: no such file or folder: check the path"):
        read_tensors(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="this is a folder, a file is needed"):
        read_tensors(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="this is a pipe or device, a file is needed"):
        read_tensors(tmp_path / "pipe")


def test_a_script_archive(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"weights/{name}", "3")
    with pytest.raises(CheckpointError, match="not a checkpoint of torch"):
        read_tensors(path)


def repacked(content: bytes, compression: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as good, zipfile.ZipFile(packed, "w", compression) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    return packed.getvalue()


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path) -> None:
    path, zeros = tmp_path / "weights.pth", saved({"x": torch.zeros(5_000_000)})
    path.write_bytes(repacked(zeros, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match=r"a zip archive that is larger unpacked, which torch\.save does not write"):
        read_tensors(path)
    path.write_bytes(repacked(zeros, zipfile.ZIP_STORED))
    same(read_tensors(path), {"x": torch.zeros(5_000_000)})


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    """A directory whose entries all point at the same bytes promises more than the file has."""
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1000)
        for i in range(100):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            copy.file_size = copy.compress_size = 1000
            copy.header_offset = copy.CRC = 0
            archive.filelist.append(copy)
    with pytest.raises(CheckpointError, match="larger unpacked"):
        read_tensors(path)


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    at = content.index(torch.arange(500.0, 510.0).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checksum of '.*' in it does not match"):
        read_tensors(path)


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    path, content = tmp_path / "weights", FORMATS[name]
    for length in (*range(0, 64), *range(64, len(content) - 1, 23), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"damaged|holds"):
            read_tensors(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(list(FORMATS)), data=st.data())
def test_changed_bytes(name: str, data: st.DataObject, tmp_path: Path) -> None:
    path, content = tmp_path / "weights", bytearray(FORMATS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    only_tensors_or_one_line(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x08\0\0\0\0\0\0\0{"]), rest=st.binary(max_size=200))
def test_any_bytes(start: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(start + rest)
    only_tensors_or_one_line(path)


def only_tensors_or_one_line(path: Path) -> None:
    message = str(path)
    try:
        found = read_tensors(path)
    except CheckpointError as error:
        found, message = {}, str(error)
    assert str(path) in message
    assert "\n" not in message
    assert all(isinstance(name, str) and tensor.isfinite().all() for name, tensor in found.items())
