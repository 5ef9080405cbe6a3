"""Who may ask what: hosts, keys, origins, bodies, paths; the port; two starts; Ctrl-C."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from explorers import Served
from onceforall.app import explorer
from onceforall.cli import run as ofa
from onceforall.errors import ServerError

JSON = {"content-type": "application/json"}
PRIVATE = ["/", "/api/run", "/api/best", "/api/jobs", "/api/pins", "/api/events", "/picture.css", "/nothing"]
HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""]
OUTSIDE = ["/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2f..%2fapp/web.py", "/static//etc/passwd"]


def ask(served: Served, method: str, path: str, *, key: bool = False, **headers: str) -> httpx.Response:
    given = {**headers, **({"x-ofa-key": served.key} if key else {})}
    return httpx.request(method, f"{served.client.base_url}/{path}", headers=given, content=b"{}" if method == "POST" else None)


@pytest.mark.parametrize("path", PRIVATE)
def test_nothing_without_the_key(served: Served, path: str) -> None:
    for given in ("", "?key=wrong", f"?key={served.key[:-1]}"):
        response = ask(served, "GET", path.lstrip("/") + given)
        assert response.status_code == 403
        assert "open the whole address that ofa explore printed" in response.text


@pytest.mark.parametrize("path", ["api/pins/add", "api/jobs/add", "api/network", "api/pins/abc/remove", "api/jobs/abc/cancel"])
def test_no_change_without_the_key_or_from_another_page(served: Served, path: str) -> None:
    assert ask(served, "POST", path, **JSON).status_code == 403
    assert ask(served, "POST", f"{path}?key={served.key}", **JSON).status_code == 403  # only the page takes it from the address
    foreign = ask(served, "POST", path, key=True, origin="http://evil.example", **JSON)
    assert foreign.status_code == 403
    assert foreign.json() == {"error": "a page of http://evil.example may not change anything here"}
    other_port = ask(served, "POST", path, key=True, origin="http://127.0.0.1:1", **JSON)
    assert other_port.status_code == 403
    assert ask(served, "POST", path, key=True, **{"content-type": "text/plain"}).status_code == 415


def test_the_address_sets_the_cookie_which_is_enough(served: Served) -> None:
    with httpx.Client() as client:
        page = client.get(served.url)
        assert page.status_code == 200
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get(f"{served.client.base_url}/api/run").status_code == 200
        for header, text in {
            "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }.items():
            assert page.headers[header].startswith(text)


@pytest.mark.parametrize("host", HOSTS)
def test_other_hosts_are_refused(served: Served, host: str) -> None:
    port = served.client.base_url.port
    response = ask(served, "GET", "api/run", key=True, host=host.format(port=port))
    assert response.status_code in (400, 403)
    if host:
        assert "is not this explorer's" in response.json()["error"]
    assert ask(served, "GET", "api/run", key=True, host=f"localhost:{port}").status_code == 200


def test_large_and_broken_bodies(served: Served) -> None:
    large = served.client.post("/api/pins/add", content=b" " * 70_000, headers=JSON)
    assert large.status_code == 413
    assert "at most 64,000" in large.json()["error"]

    def pieces() -> object:
        yield b"{}"

    assert served.client.post("/api/pins/add", content=pieces(), headers=JSON).status_code == 411  # type: ignore[arg-type]
    for body in (b"{", b"[1]", b"\xff\xfe", b"[" * 60_000):
        response = served.client.post("/api/pins/add", content=body, headers=JSON)
        assert response.status_code == 400
        assert "\n" not in response.json()["error"]
    for arch in ("", "{}", "x" * 1000):
        assert served.client.post("/api/pins/add", json={"arch": arch, "name": "x"}).status_code == 400


@pytest.mark.parametrize("path", OUTSIDE)
def test_only_the_page_s_own_files(served: Served, path: str) -> None:
    with socket.create_connection(("127.0.0.1", served.client.base_url.port or 0)) as connection:  # as it is: clients tidy paths up
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.client.base_url.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split()[1] in (b"403", b"404")
    assert b"Starlette(" not in answer


def test_the_port_and_the_host(served: Served, measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = served.client.base_url.port
    assert port is not None
    with pytest.raises(ServerError, match=f"port {port} is in use: choose another with --port, or 0 for a free one"):
        explorer(measured, port=port)
    assert ofa(["explore", str(measured), "--port", str(port), "--no-browser"]) == 1
    assert capsys.readouterr().err == f"ofa: port {port} is in use: choose another with --port, or 0 for a free one\n"
    assert ofa(["explore", str(measured), "--host", "192.0.2.1", "--port", "0", "--no-browser"]) == 1
    assert "is not an address of this machine" in capsys.readouterr().err
    assert ofa(["explore", str(measured / "nothing"), "--no-browser"]) == 1
    assert "no run directory" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(trained: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "onceforall", "explore", str(trained), "--port", "0", "--host", "0.0.0.0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    with httpx.stream("GET", url.replace("/?", "/api/events?"), headers={"x-ofa-key": url.partition("key=")[2]}) as events:
        next(events.iter_bytes())  # a page is open
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "other machines can reach this" in err
    assert process.returncode in (0, -number)
