"""Checks of every request: the right host (against DNS rebinding), the key of this start, our own page as origin, a small body;
and the security headers of every answer."""

import hmac
import ipaddress
import re
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64_000
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN = ("/static/",)  # needs no key, since it has nothing about the run
HTTP_PORT = 80  # the port that browsers omit
ADDRESS = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")


def loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Wraps the app. `key` must be in the cookie, the header X-OFA-Key or, for the page itself, the address."""

    def __init__(self, app: ASGIApp, *, key: str, host: str, port: int) -> None:
        self.app, self.key, self.host, self.port = app, key, host, port
        self.cookie = f"ofa_explore_{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given, headers = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0], Headers(scope=scope)
        page = scope["path"] == "/"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out[name] = value
                if page and self._is_key(given):
                    out["set-cookie"] = f"{self.cookie}={self.key}; HttpOnly; SameSite=Strict; Path=/"
            await send(message)

        refusal = self._refusal(scope, headers, given if page else "")
        if refusal is None:
            await self.app(scope, receive, answer)
            return
        status, text = refusal
        response = PlainTextResponse(text + "\n", status) if page else JSONResponse({"error": text}, status)
        await response(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: Headers, given: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._our_host(host):
            return 403, f"the host {host!r} is not this explorer's: open the address that ofa explore printed"
        if scope["path"].startswith(OPEN):
            return None
        if not any(map(self._is_key, (given, headers.get("x-ofa-key", ""), *self._cookies(headers)))):
            return 403, "this needs the key of the explorer: open the whole address that ofa explore printed, with ?key=…"
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin = headers.get("origin", f"http://{host}")
        if not origin.startswith("http://") or _address(origin.removeprefix("http://")) != _address(host):
            return 403, f"a page of {origin} may not change anything here: open the address that ofa explore printed"
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return 415, "send JSON, with the content type application/json"
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, "the length of the body is missing: send the header content-length"
        if int(length) > MOST_BYTES:
            return 413, f"{int(length):,} bytes are too many: at most {MOST_BYTES:,} are allowed"
        return None

    def _cookies(self, headers: Headers) -> Iterator[str]:
        """Each cookie with our name: other programs at this address may set cookies with any text, even with the same name."""
        for header in headers.getlist("cookie"):
            for pair in header.split(";"):
                name, _, value = pair.partition("=")
                if name.strip() == self.cookie:
                    yield value.strip()

    def _is_key(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.key.encode())

    def _our_host(self, header: str) -> bool:
        """Whether the host is ours. A name that others could point here is not; numeric addresses cannot be redirected."""
        found = _address(header)
        if found is None or found[1] != self.port:
            return False
        name = found[0]
        if loopback(name) or name == self.host.lower():
            return True
        if loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in (socket.gethostname().lower(), socket.getfqdn().lower())
        return True


def _address(text: str) -> tuple[str, int] | None:
    """Lowercase host and port of "host:port"; None for other text."""
    found = ADDRESS.fullmatch(text)
    return None if found is None else (found[1].removeprefix("[").removesuffix("]").lower(), int(found[2] or HTTP_PORT))
