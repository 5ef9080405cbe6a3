"""Who may ask what: hosts, keys, origins, bodies, paths; the port; two starts; Ctrl-C."""

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from explorers import Served
from onceforall.app import explorer
from onceforall.app.safety import Guard
from onceforall.cli import run as ofa
from onceforall.errors import ServerError
from warm import Ofa

JSON = {"content-type": "application/json"}
PRIVATE = ["/", "/api/run", "/api/best", "/api/jobs", "/api/pins", "/api/events", "/picture.css", "/nothing"]
HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""]
OUTSIDE = ["/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2f..%2fapp/web.py", "/static//etc/passwd"]
FOREIGN = [
    b"a[]=1",
    b'x="open',
    b"\xff\xfe=\xe9",
    b"=;;=",
    b"{j: [1, 2]}",
    b"a,b (c)=d",
    b"NAME=wrong",
    b"NAME=\xff",
    b'NAME="',
    b"NAMES=1",
]


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
    assert foreign.json() == {
        "error": "a page of http://evil.example may not change anything here: open the address that ofa explore printed"
    }
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
    assert "not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(trained: Path, number: signal.Signals) -> None:
    process = Ofa(["explore", str(trained), "--port", "0", "--host", "0.0.0.0", "--json"])
    url = json.loads(process.stdout.readline())["url"]
    with httpx.stream("GET", url.replace("/?", "/api/events?"), headers={"x-ofa-key": url.partition("key=")[2]}) as events:
        next(events.iter_bytes())  # a page is open
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "other machines can reach this" in err
    assert process.returncode in (0, -number)


@pytest.mark.parametrize("form", ["{other}; {ours}", "{ours}; {other}"])
@pytest.mark.parametrize("other", FOREIGN)
def test_cookies_of_other_programs_lock_nobody_out(served: Served, form: str, other: bytes) -> None:
    """Cookies are shared by all ports of a host: whatever runs there can set them, also under our name for a longer path."""
    name = f"ofa_explore_{served.client.base_url.port}".encode()
    other = other.replace(b"NAME", name)
    both = form.encode().replace(b"{other}", other).replace(b"{ours}", name + b"=" + served.key.encode())
    for cookie, status in ((both, 200), (other, 403)):
        assert httpx.get(f"{served.client.base_url}/api/run", headers={b"cookie": cookie}).status_code == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1", "http://127.0.0.1", 200),
        ("127.0.0.1:80", "http://127.0.0.1", 200),
        ("[::1]", "http://[::1]", 200),
        ("LOCALHOST", "http://localhost", 200),
        ("127.0.0.1:8471", "http://127.0.0.1:8471", 403),
        ("127.0.0.1:", "http://127.0.0.1:", 403),
        ("127.0.0.1:²", "http://127.0.0.1", 403),
        ("evil.example", "http://evil.example", 403),
        ("", "http://", 403),
        ("127.0.0.1", "http://127.0.0.1:81", 403),
        ("127.0.0.1", "https://127.0.0.1", 403),
        ("127.0.0.1", "null", 403),
    ],
)
def test_port_80_which_browsers_leave_out(host: str, origin: str, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("inside")(scope, receive, send)

    async def ask() -> int:
        transport = httpx.ASGITransport(Guard(app, key="right", host="127.0.0.1", port=80))
        headers = {"host": host, "origin": origin, "x-ofa-key": "right", **JSON}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            return (await client.post("/api/pins/add", headers=raw, content=b"{}")).status_code

    assert asyncio.run(ask()) == status


@pytest.mark.parametrize("host", ["..", "a..b", "x" * 70, "no.such.host.invalid"])
def test_names_that_are_none(measured: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert ofa(["explore", str(measured), "--host", host, "--port", "0", "--no-browser"]) == 1
    assert capsys.readouterr().err == f"ofa: --host {host!r}: there is no such address: use 127.0.0.1\n"


BROWSER = """#!PYTHON
import json, os, pathlib, stat, sys, urllib.request
path = pathlib.Path(urllib.request.url2pathname(sys.argv[1].removeprefix("file://")))
modes = [oct(stat.S_IMODE(one.stat().st_mode)) for one in (path, path.parent)]
seen = pathlib.Path(os.environ["SEEN"])
seen.with_suffix(".part").write_text(json.dumps([sys.argv[1:], modes, path.read_text()]))
seen.with_suffix(".part").rename(seen)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_key_is_in_no_command_line(trained: Path, tmp_path: Path, number: signal.Signals) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(BROWSER.replace("PYTHON", sys.executable))
    browser.chmod(0o700)
    temporary = tmp_path / "t"
    temporary.mkdir()
    process = Ofa(["explore", str(trained), "--port", "0"], {"BROWSER": str(browser), "SEEN": str(seen), "TMPDIR": str(temporary)})
    url = process.stdout.readline().strip()
    key = url.partition("key=")[2]
    until = time.monotonic() + 60
    while not seen.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    (command,), modes, page = json.loads(seen.read_text())
    assert len(key) > 20
    assert key not in command
    assert command.startswith("file://")
    assert modes == ["0o600", "0o700"]
    assert f'content="0;url={url}"' in page
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "stopped; pins and finished exports are kept" in err
    assert not list(temporary.glob("ofa-explore-*"))
    assert process.returncode == 0
