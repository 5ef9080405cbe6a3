"""A server of files on loopback: of a mirror of any addresses, and of the Hub as far as its libraries ask for files."""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40
TORCHVISION = "download.pytorch.org/models"


def forget_library() -> None:
    """The Hub's library reads addresses and folders once, when it is imported; its connections stay open."""
    if "huggingface_hub.utils" in sys.modules:
        sys.modules["huggingface_hub.utils"].close_session()
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class FileServer:
    """What it has, and what it was asked for.

    Args:
        files: content by path.
        large: ends of names whose ETag is the sha256, as the Hub has it for large files; of others it is the git object id.
        cut: bytes after which every connection ends, if any.
        ranges: it can send the rest of a file.
        gated: repositories of the Hub that nobody may see.
        asked: method, path and the beginning of what was asked for, in order.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    large: tuple[str, ...] = (".safetensors", ".bin", ".pth")
    etags: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    gated: tuple[str, ...] = ()
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    data: dict[str, dict[str, str]] = field(default_factory=dict)

    def publish(self, repository: str, **files: bytes) -> None:
        """Files of a repository of the Hub; `__` in a name stands for a dot."""
        for name, content in files.items():
            self.files[f"/{repository}/resolve/main/{name.replace('__', '.')}"] = content

    def publish_data(self, repository: str, files: dict[str, bytes], revision: str = "main", commit: str = COMMIT) -> None:
        """A data set of the Hub: its files, by what a branch and a commit are called."""
        for place in (revision, commit):
            self.data.setdefault(repository, {})[place] = commit
            for path, content in files.items():
                self.files[f"/datasets/{repository}/resolve/{place}/{path}"] = content

    def api(self, address: str, body: bytes) -> bytes | None:
        """What the Hub says about a data set: facts, a folder of files, or those that are named."""
        path, asked = unquote(urlsplit(address).path), parse_qs(urlsplit(address).query)
        for repository, places in self.data.items():
            head = f"/api/datasets/{repository}"
            if path == head or path.startswith(f"{head}/"):
                what, _, rest = path.removeprefix(head).strip("/").partition("/")
                place = next((place for place in places if rest == place or rest.startswith(f"{place}/")), "" if rest else "main")
                if place not in places:
                    return None
                inside = rest.removeprefix(place).strip("/")
                head = f"/datasets/{repository}/resolve/{place}/"
                names = [name.removeprefix(head) for name in self.files if name.startswith(head)]
                if what in ("", "revision"):
                    return json.dumps(
                        {"id": repository, "sha": places[place], "siblings": [{"rfilename": n} for n in names]}
                    ).encode()
                folders = {"/".join(name.split("/")[:i]) for name in names for i in range(1, name.count("/") + 1)}
                known = [{"type": "file", "path": name, "size": len(self.files[head + name]), "oid": "f" * 40} for name in names]
                known += [{"type": "directory", "path": name, "oid": "d" * 40} for name in sorted(folders)]
                if what == "paths-info":
                    return json.dumps([one for one in known if one["path"] in parse_qs(body.decode()).get("paths", [])]).encode()
                start = f"{inside}/" if inside else ""
                below = [one for one in known if str(one["path"]).startswith(start)]
                if asked.get("recursive", ["false"])[0].lower() != "true":
                    below = [one for one in below if "/" not in str(one["path"]).removeprefix(start)]
                return json.dumps(below).encode() if below or not inside else None
        return None

    def etag(self, path: str) -> str:
        content = self.files[path]
        return self.etags.get(path) or (hashlib.sha256(content).hexdigest() if path.endswith(self.large) else git_id(content))

    def of_hub(self, path: str) -> dict[str, str]:
        """The headers that the Hub's library needs, with the file or its absence."""
        if "/resolve/" not in path:
            known = any(path.startswith(f"/api/datasets/{repository}/") for repository in self.data)
            missing = "RepoNotFound" if not known else "RevisionNotFound" if "/revision/" in path else "EntryNotFound"
            return {"X-Error-Code": missing} if path.startswith("/api/datasets/") else {}
        repository, _, rest = path.strip("/").partition("/resolve/")
        places = self.data.get(repository.removeprefix("datasets/"), {})
        headers = {"X-Repo-Commit": next((places[place] for place in places if rest.startswith(f"{place}/")), COMMIT)}
        if path in self.files:
            return {**headers, "ETag": f'"{self.etag(path)}"'}
        if path.split("/resolve/")[0].strip("/") in self.gated:
            return {**headers, "X-Error-Code": "GatedRepo"}
        known = any(other.startswith(path.split("/resolve/")[0]) for other in self.files)
        return {**headers, "X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}


@contextmanager
def serving_files() -> Iterator[FileServer]:
    """A server that answers until the end of the block."""
    server = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def reply(self) -> None:
            path, wanted = unquote(urlsplit(self.path).path), self.headers.get("range", "")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted.endswith("-") and server.ranges else 0
            server.asked.append((self.command, path, start))
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            content, headers = server.files.get(path), server.of_hub(path)
            if content is None:
                content = server.api(self.path, body)
            if content is None:
                status, content = (403 if "GatedRepo" in headers.values() else 404), b""
            elif start >= len(content) > 0:
                status, content = 416, b""
            else:
                status = 206 if start else 200
                content = content[start:]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: server.cut])

        do_GET = do_HEAD = do_POST = reply

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server.address = f"http://127.0.0.1:{listening.server_port}"
        thread = Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield server
        listening.shutdown()
        thread.join()


@contextmanager
def stored(entry: Any, content: bytes, server: FileServer, **meta: Any) -> Iterator[str]:
    """While inside, torchvision's weights are these; the end of their address has their sha256, as with the real ones."""
    url = f"https://{TORCHVISION}/net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files[f"/{TORCHVISION}/{url.rpartition('/')[2]}"] = content
    before = entry.value.url, entry.value.meta
    object.__setattr__(entry.value, "url", url)
    object.__setattr__(entry.value, "meta", {**entry.value.meta, **meta})
    yield url
    object.__setattr__(entry.value, "url", before[0])
    object.__setattr__(entry.value, "meta", before[1])
