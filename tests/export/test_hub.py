"""Pushing to the Hugging Face Hub: its own library, and a Hub on loopback."""

import importlib.util
import re
import shutil
import socket
import sys

import pytest
from fake_hub import TOKEN, serving

from onceforall.errors import HubError, MissingExtraError
from onceforall.export import push, require_pushable

LIBRARY = "huggingface_hub"
needs_library = pytest.mark.skipif(importlib.util.find_spec(LIBRARY) is None, reason=f"{LIBRARY} is not installed")


def forget_library():
    """It reads addresses and folders once, when it is imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
        del sys.modules[name]


@pytest.fixture
def environment(tmp_path_factory, monkeypatch):
    """The library as it is for a user of this environment, with a token; nothing goes beyond this machine."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    forget_library()
    yield monkeypatch
    forget_library()


@pytest.fixture
def hub(environment):
    with serving() as hub:
        environment.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@needs_library
@pytest.mark.parametrize("large", [(), (".onnx", ".safetensors")])
def test_a_repository_is_made_and_gets_what_the_folder_has(hub, environment, folder, large):
    if large:  # files that the Hub keeps elsewhere, the way that loopback can play
        hub.large = large
        environment.setenv("HF_HUB_DISABLE_XET", "1")
    (folder / "trained_on.json").write_text("{}")  # tells who has an image whether it was trained on
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"left by an import")
    assert push(folder, "me/net") == f"{hub.endpoint}/me/net"
    assert hub.private == {"me/net": True}
    assert hub.commits == ["Network specialised by onceforall"]
    assert hub.files["me/net"].pop(".gitattributes")
    assert hub.files["me/net"] == {name: data for name, data in contents(folder).items() if name != "trained_on.json"}
    assert len(hub.objects) == 2 * bool(large)


@needs_library
def test_a_second_push_deletes_what_the_first_left_and_nothing_else(hub, folder):
    (folder / "model.int8.onnx").write_bytes(b"int8")
    push(folder, "me/net")
    assert "model.int8.onnx" in hub.files["me/net"]
    by_hand = {"LICENSE": b"mine", ".gitattributes": b"*.onnx filter=lfs", "examples/model.onnx": b"mine too"}
    hub.files["me/net"] |= by_hand
    hub.files["me/net"]["trained_on.json"] = b"uploaded by an earlier version"
    (folder / "model.int8.onnx").unlink()
    (folder / "README.md").write_text("---\nlicense: mit\n---\nanother network")
    push(folder, "net")  # of the token's user
    assert hub.files == {"me/net": contents(folder) | by_hand}
    assert len(hub.commits) == 2


@needs_library
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the Hub rejects the token: give a token with write access by hf auth login or HF_TOKEN"),
        (403, "the token may not write there: give a token with write access by .*, or choose another name"),
        (404, "the Hub has no such user or organization: choose another name"),
        (500, "the Hub answers 500: "),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(hub, folder, status, message):
    hub.refuse = status
    with pytest.raises(
        HubError,
        match=rf"^me/net: not pushed: {message}.*; .* is complete, .* hf upload --private me/net .* --exclude trained_on\.json$",
    ) as caught:
        push(folder, "me/net")
    assert "\n" not in str(caught.value)


@needs_library
def test_a_wrong_token_is_told(hub, environment, folder):
    environment.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="the Hub rejects the token"):
        push(folder, "me/net")


@needs_library
def test_a_hub_that_cannot_be_reached_is_told(environment, folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "my net")
    message = (
        r"^me/net: not pushed: the Hub cannot be reached \(.*\): check the network; .*--private me/net "
        rf"'{re.escape(str(moved))}' --exclude trained_on\.json$"
    )
    with pytest.raises(HubError, match=message):
        push(moved, "me/net")


@needs_library
def test_names_and_token_are_looked_at_without_a_network(environment):
    require_pushable(["me/net", "net", "an-organisation/net.v2_0"])
    for name in ("me/a net", "me/net/more", "", "me/", "-net", "me/net.git"):
        with pytest.raises(
            HubError, match=rf"^--push-to-hub: {re.escape(repr(name))} is not a repository name, give USER/NAME: .*$"
        ):
            require_pushable(["me/net", name])
    environment.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"^--push-to-hub: no token of the Hugging Face Hub was found: give a token .* HF_TOKEN$"):
        require_pushable(["me/net"])


def test_a_missing_library_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    for call in (lambda: push(folder, "me/net"), lambda: require_pushable(["me/net"])):
        with pytest.raises(MissingExtraError, match=r"pip install 'onceforall\[hub\]'"):
            call()
