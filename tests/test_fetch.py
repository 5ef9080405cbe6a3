"""Files of other servers: whole or not at all, gone on with, and only what they should be."""

import hashlib
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from file_server import COMMIT, FileServer, forget_library, git_id, serving_files
from onceforall.common.fetch import Remote, fetch, from_hub, mirrored, out_of_reach
from onceforall.errors import FileError

CONTENT = bytes(range(256)) * 20_000  # 5.1 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Events = list[dict[str, Any]]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving_files() as server:
        server.files["/a/net.pth"] = CONTENT
        yield server


def remote(server: FileServer, folder: Path, digest: str = SHA256[:8], path: str = "/a/net.pth") -> Remote:
    return Remote("lib:net", server.address + path, folder / "cache" / "net.pth", digest, "give it with --weights FILE")


def refused(wanted: Remote, message: str) -> str:
    with pytest.raises(FileError, match=message) as raised:
        fetch(wanted, lambda event: None)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("digest", [SHA256, SHA256[:8], git_id(CONTENT), hashlib.sha1(CONTENT).hexdigest()])
def test_a_file_is_fetched_once(server: FileServer, tmp_path: Path, digest: str) -> None:
    events: Events = []
    path = fetch(remote(server, tmp_path, digest), events.append)
    assert path.read_bytes() == CONTENT
    assert events[-1] == {"event": "download", "file": "net.pth", "done": len(CONTENT), "total": len(CONTENT)}
    assert len(events) > 2
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]
    server.files.clear()
    assert fetch(remote(server, tmp_path, digest), events.append) == path
    assert len(server.asked) == 1


def test_a_connection_that_ends_too_early_is_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    wanted, server.cut = remote(server, tmp_path), 3_000_000
    assert "run the command again" in refused(wanted, r"the connection ended after 3,000,000 of 5,120,000 bytes")
    assert not wanted.path.exists()
    server.cut = None
    events: Events = []
    assert fetch(wanted, events.append).read_bytes() == CONTENT
    assert server.asked[-1] == ("GET", "/a/net.pth", 3_000_000)
    assert events[0]["done"] > 3_000_000
    assert events[-1]["done"] == events[-1]["total"] == len(CONTENT)


def test_a_server_that_cannot_go_on_begins_anew(server: FileServer, tmp_path: Path) -> None:
    wanted, server.cut, server.ranges = remote(server, tmp_path), 3_000_000, False
    refused(wanted, "the connection ended")
    server.cut = None
    assert fetch(wanted, lambda event: None).read_bytes() == CONTENT


def test_all_was_there_but_the_name(server: FileServer, tmp_path: Path) -> None:
    wanted = remote(server, tmp_path)
    wanted.path.parent.mkdir()
    (wanted.path.parent / "net.pth.incomplete").write_bytes(CONTENT)
    assert fetch(wanted, lambda event: None).read_bytes() == CONTENT


def test_ctrl_c_leaves_no_file_under_its_name(server: FileServer, tmp_path: Path) -> None:
    wanted, calls = remote(server, tmp_path), iter(range(3))

    def stop(event: dict[str, Any]) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(wanted, stop)
    assert {file.name for file in wanted.path.parent.iterdir()} == {"net.pth.incomplete"}
    assert fetch(wanted, lambda event: None).read_bytes() == CONTENT
    assert server.asked[-1][2] > 0


def test_another_file_than_it_should_be(server: FileServer, tmp_path: Path) -> None:
    wanted = remote(server, tmp_path)
    server.files["/a/net.pth"] = b"other"
    found = hashlib.sha256(b"other").hexdigest()[:8]
    refused(
        wanted,
        rf"the downloaded file is wrong \(its sha256 is {found}, not {SHA256[:8]}\).* is deleted: give it with --weights FILE",
    )
    assert not list(wanted.path.parent.iterdir())
    refused(remote(server, tmp_path, git_id(CONTENT)), rf"its git object id is {git_id(b'other')}, not {git_id(CONTENT)}")
    wanted.path.write_bytes(b"other")
    refused(wanted, r"net.pth: is not http://.*delete it to download it again")


def test_out_of_reach(server: FileServer, tmp_path: Path) -> None:
    refused(
        remote(server, tmp_path, path="/none"), r"'lib:net' needs http://\S+/none: the server answers 404 Not Found: give it with"
    )
    for address, why in (("http://127.0.0.1:9", "refused"), ("http://no.such.host.invalid", ""), ("nothing", "unknown url type")):
        wanted = Remote("lib:net", f"{address}/net.pth", tmp_path / "net.pth", SHA256, "give it with --weights FILE", 21_300_000)
        text = (
            r"\(21.3 MB\): not in the cache, and cannot be downloaded \(.*"
            + why
            + r".*\): connect, or give it with --weights FILE$"
        )
        assert f"'lib:net' needs {address}/net.pth" in refused(wanted, text)


def test_no_disk(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
        refused(remote(server, tmp_path), r"cache: the disk has 5.0 MB free, and http://\S+ needs 5.1 MB: free some")
    with suppress(OSError):
        (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file")
    refused(remote(server, tmp_path), "cache")


def test_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONCEFORALL_MIRROR", raising=False)
    assert mirrored("https://a.org/b/c.pth") == "https://a.org/b/c.pth"
    monkeypatch.setenv("ONCEFORALL_MIRROR", "https://mirror.example/files/")
    assert mirrored("https://a.org/b/c.pth") == "https://mirror.example/files/a.org/b/c.pth"
    monkeypatch.setenv("ONCEFORALL_MIRROR", "/a/folder")
    with pytest.raises(FileError, match=r"ONCEFORALL_MIRROR=/a/folder: an address such as https://"):
        mirrored("https://a.org/b/c.pth")


# -- the Hub -------------------------------------------------------------------------------------------------------------------


def ask(*names: str, repository: str = "me/net") -> Any:
    return from_hub(f"hf:{repository}", repository, names or ("model.safetensors",), lambda event: None, otherwise="do without")


def test_a_file_of_the_hub(hub_of_files: FileServer, tmp_path: Path) -> None:
    hub = hub_of_files
    hub.publish("me/net", model__safetensors=CONTENT, config__json=b"{}")
    hub.cut = 3_000_000
    with pytest.raises(FileError, match=r"me/net/resolve/\S+ \(5.1 MB\): the connection ended after 3,000,000 of 5,120,000 bytes"):
        ask()
    hub.cut = None
    found = ask()
    assert ("GET", "/me/net/resolve/main/model.safetensors", 3_000_000) in hub.asked
    assert found.path.read_bytes() == CONTENT
    assert found.url == f"{hub.address}/me/net/resolve/{COMMIT}/model.safetensors"
    assert found.path.resolve().name == SHA256  # where the library itself would have put it
    assert ask("config.json").path.parent == found.path.parent
    assert sys.modules["huggingface_hub"].try_to_load_from_cache("me/net", "model.safetensors") == str(found.path)
    asked = len(hub.asked)
    hub.files.clear()
    assert ask("none.safetensors", "model.safetensors") == found  # without a connection
    assert len(hub.asked) == asked


def test_the_first_that_a_repository_has(hub_of_files: FileServer) -> None:
    hub_of_files.publish("me/net", pytorch_model__bin=b"weights")
    assert ask("model.safetensors", "pytorch_model.bin").path.name == "pytorch_model.bin"
    assert ask("model.safetensors") is None


def test_a_file_of_the_hub_that_was_changed(hub_of_files: FileServer) -> None:
    hub_of_files.publish("me/net", model__safetensors=CONTENT)
    path = "/me/net/resolve/main/model.safetensors"
    hub_of_files.etags[path] = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(FileError, match=r"the downloaded file is wrong \(its sha256 is .*do without$"):
        ask()
    del hub_of_files.etags[path]
    blob = ask().path.resolve()
    blob.write_bytes(b"damaged")
    with pytest.raises(
        FileError, match=r"blobs/\w+: is not \S+/model.safetensors \(its sha256 is .*delete it to download it again"
    ):
        ask()
    blob.unlink()
    assert ask().path.read_bytes() == CONTENT


def test_a_hub_that_names_files_in_another_way(hub_of_files: FileServer) -> None:
    hub_of_files.publish("me/net", model__safetensors=b"weights")
    hub_of_files.etags["/me/net/resolve/main/model.safetensors"] = "v1-of-a-mirror"
    assert ask().path.read_bytes() == b"weights"


def test_what_the_hub_has_not(hub_of_files: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for repository, message in (
        (
            "me/none",
            r"the Hub has no repository me/none, or hides it: check the name, or give a token \(hf auth login\), or do without",
        ),
        (
            "me/gated",
            r"me/gated requires accepting its terms: do so at http://\S+/me/gated, then hf auth login, or do without",
        ),
    ):
        hub_of_files.gated = ("me/gated",)
        with pytest.raises(FileError, match=message) as raised:
            ask(repository=repository)
        assert "\n" not in str(raised.value)
    for variable, value, message in (
        (
            "HF_HUB_OFFLINE",
            "1",
            r"main/model.safetensors: not in the cache, and cannot be downloaded \(HF_HUB_OFFLINE is set\): connect, or do",
        ),
        (
            "HF_ENDPOINT",
            "http://127.0.0.1:9",
            r"http://127.0.0.1:9/me/net/\S+ not in the cache, and cannot be downloaded \(.*, or do",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            forget_library()
            with pytest.raises(FileError, match=message) as raised:
                ask()
            assert "\n" not in str(raised.value)


def test_which_failures_are_of_the_connection() -> None:
    """By their names, since a library's classes are not ours to import."""
    httpx, errors = pytest.importorskip("httpx"), pytest.importorskip("huggingface_hub.errors")
    chained, address = ValueError("no data"), "https://hub.example"
    chained.__cause__ = httpx.ConnectTimeout("slow")
    lost = [ConnectionResetError(), TimeoutError(), socket.gaierror(), httpx.ConnectError("refused"), chained]
    others = [PermissionError(13, "denied"), OSError(28, "no space"), ValueError("odd"), KeyError("x"), httpx.InvalidURL("odd")]

    def answered(status: int) -> Exception:
        return errors.HfHubHTTPError("odd", response=httpx.Response(status, request=httpx.Request("GET", address)))

    assert all(map(out_of_reach, [*lost, errors.OfflineModeIsEnabled(), answered(429), answered(503)]))
    assert not any(map(out_of_reach, [*others, answered(401), answered(404)]))
