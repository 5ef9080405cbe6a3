"""A Hugging Face Hub on loopback: the few answers that `create_repo` and `upload_folder` of its library ask for."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

TOKEN = "hf_of_the_test"


@dataclass
class FakeHub:
    """What it has been given.

    Args:
        files: of each repository, content by name.
        private: whether each repository is.
        commits: messages of all commits, in order.
        large: ends of names that go to the store of large files; others come inside the commit.
        refuse: status that every call gets, if any.
    """

    endpoint: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    large: tuple[str, ...] = ()
    refuse: int | None = None
    calls: int = 0

    def create(self, asked: dict) -> tuple[int, dict]:
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = {"url": f"{self.endpoint}/{repo}"}
        if repo in self.files:
            return 409, {**url, "error": "You already created this model repo"}
        self.files[repo], self.private[repo] = (
            {".gitattributes": b"*.onnx filter=lfs"},
            asked.get("visibility") == "private" or asked.get("private") is True,
        )
        return 200, url

    def modes(self, asked: dict) -> dict:
        mode = {True: "lfs", False: "regular"}
        return {
            "files": [
                {"path": f["path"], "uploadMode": mode[f["path"].endswith(self.large)], "shouldIgnore": False}
                for f in asked["files"]
            ]
        }

    def commit(self, repo: str, lines: list[dict]) -> dict:
        files = self.files[repo]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    self.commits.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
                case key:
                    raise AssertionError(key)
        return {"commitUrl": f"{self.endpoint}/{repo}/commit/1", "commitOid": "1" * 40, "success": True}

    def upload(self, asked: dict) -> dict:
        upload = [{**o, "actions": {"upload": {"href": f"{self.endpoint}/store/{o['oid']}"}}} for o in asked["objects"]]
        return {"transfer": "basic", "objects": upload}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        self.calls += 1
        if self.refuse is not None:
            return self.refuse, {"error": "refused\nby the test"}
        match method, path.strip("/").split("/"):
            case "POST", ["api", "repos", "create"]:
                return self.create(json.loads(body))
            case "POST", ["api", "validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            case "GET", ["api", "models", user, name, "tree", "main"]:
                files = self.files[f"{user}/{name}"]
                return 200, [{"type": "file", "path": key, "size": len(value), "oid": "0" * 40} for key, value in files.items()]
            case "GET", ["api", "models", user, name, "revision", "main"]:
                files = self.files[f"{user}/{name}"]
                return 200, {"id": f"{user}/{name}", "sha": "0" * 40, "siblings": [{"rfilename": key} for key in files]}
            case "POST", ["api", "models", _, _, "preupload", "main"]:
                return 200, self.modes(json.loads(body))
            case "POST", ["api", "models", user, name, "commit", "main"]:
                return 200, self.commit(f"{user}/{name}", [json.loads(line) for line in body.splitlines()])
            case "POST", [_, _, "info", "lfs", "objects", "batch"]:
                return 200, self.upload(json.loads(body))
            case "PUT", ["store", oid]:
                assert hashlib.sha256(body).hexdigest() == oid
                self.objects[oid] = body
                return 200, {}
        raise AssertionError((method, path))


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A Hub that answers until the end of the block, and knows one token, of the user "me"."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self) -> None:
            path, length = urlsplit(self.path).path, int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            known = path.startswith("/store/") or self.headers.get("authorization") == f"Bearer {TOKEN}"
            try:
                status, found = hub.answer(self.command, path, body) if known else (401, {"error": "Invalid credentials"})
            except Exception as error:
                status, found = 418, {"error": f"the test's Hub fails: {error!r}"}
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = reply

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
