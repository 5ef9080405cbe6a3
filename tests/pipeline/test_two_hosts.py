"""Two hosts, as network namespaces with a cable between them: torchrun trains from shards, with one run folder that both see."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onceforall.pipeline import Run
from tiny_run import SPACE_TEXT

PORT = "29555"  # in a namespace of its own


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=20)


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str, str]]]:
    """Of each host the namespace, its interface, and its address."""
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("two hosts need root and ip (apt-get install iproute2), to make network namespaces")
    names = [f"ofa{os.getpid()}{letter}" for letter in "ab"]
    found = [(name, f"v{name}"[:15], f"10.77.0.{i + 1}") for i, name in enumerate(names)]
    try:
        made = [ip("netns", "add", name) for name in names]
        (a, cable, _), (b, other, _) = found
        made.append(ip("link", "add", cable, "netns", a, "type", "veth", "peer", "name", other, "netns", b))
        for name, interface, address in found:
            made += [ip("-n", name, "addr", "add", f"{address}/24", "dev", interface)]
            made += [ip("-n", name, "link", "set", each, "up") for each in ("lo", interface)]
        if wrong := [each.stderr.strip() for each in made if each.returncode]:
            pytest.skip(f"no network namespaces here: {wrong[0]}")
        yield found
    finally:
        for name in names:
            ip("netns", "del", name)


def write_shards(folder: Path) -> None:
    """Three shards of training images in WebDataset's format, and one of test images: bright and dark ones."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, images in (("train-000000", 20), ("train-000001", 20), ("train-000002", 12), ("test-000000", 12)):
        with tarfile.open(folder / f"{name}.tar", "w:") as archive:
            for i in range(images):
                stream = io.BytesIO()
                pixels = rng.integers(0, 120, (20, 18, 3), dtype=np.uint8) + np.uint8(120 * (i % 2))
                Image.fromarray(pixels).save(stream, "PNG")
                for suffix, data in ((".png", stream.getvalue()), (".cls", (b"dark", b"bright")[i % 2])):
                    info = tarfile.TarInfo(f"{i:05}{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def test_two_hosts_train_from_shards(hosts: list[tuple[str, str, str]], tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    out, leader = tmp_path / "run", hosts[0][2]
    words = ["train", str(tmp_path / "shards"), "--out", str(out), "--preset", "digits", "--space", SPACE_TEXT, "--scheme"]
    words += ["single_path", "--epochs", "2", "--batch-size", "8", "--cache", "none", "--from", "scratch"]
    running = []
    for rank, (name, interface, _) in enumerate(hosts):
        where = ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1", "--master-addr", leader, "--master-port", PORT]
        command = [sys.executable, "-m", "torch.distributed.run", *where, "-m", "onceforall", *words]
        cache = tmp_path / f"cache {rank}"  # each host has its own
        more = {"GLOO_SOCKET_IFNAME": interface, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *command], env={**os.environ, **more}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    try:
        ended = [(one.communicate(timeout=150), one.returncode) for one in running]
    finally:
        for one in running:
            one.kill()
    assert [code for _, code in ended] == [0, 0], [err for (_, err), _ in ended]
    assert [text.count("trained: ") for (text, _), _ in ended] == [1, 0], "one process speaks"
    run = Run.open(out)
    assert run.info.environment["processes"] == 2
    assert run.info.data is not None
    assert (run.info.data.source, run.info.data.cache) == (str(tmp_path / "shards"), "none")
    assert run.supernet().num_classes == 2
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == run.info.images["train"] // 8 * 2
    size = (out / "supernet.safetensors").stat().st_size
    for name, interface, _ in hosts:
        told = json.loads(ip("-n", name, "-s", "-j", "link", "show", "dev", interface).stdout)[0]["stats64"]
        assert told["tx"]["bytes"] > size, "gradients went over the cable"
    assert all(any((tmp_path / f"cache {rank}" / "onceforall").glob("*-facts")) for rank in range(2)), "both read the shards"
