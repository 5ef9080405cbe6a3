"""`ofa explore`."""

import html
import json
import os
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from ..options.declare import Flag
from ..options.shared import MOVED, RUN
from .signals import handled, interrupt
from .views import tell


def explore_command(
    as_json: bool,
    *,
    folder: Annotated[Path, RUN],
    port: Annotated[int, Flag("Port; 0 picks a free one.", "N", least=0, most=65535)] = 8471,
    host: Annotated[str, Flag("Address to listen on; all but loopback are open to others.", "ADDRESS")] = "127.0.0.1",
    no_browser: Annotated[bool, Flag("Print the address only.")] = False,
    data: Annotated[str | None, MOVED] = None,
) -> None:
    """Look at a run in the browser, and export from there."""
    from ..app import explorer

    found = explorer(folder, host=host, port=port, data=data)
    from ..app.safety import loopback

    if not loopback(host):
        tell(f"{host}: other machines can reach this, unencrypted; anyone with the address and its key can use the run")
    print(json.dumps({"url": found.url}) if as_json else found.url, flush=True)
    try:
        with handled(interrupt), nullcontext() if no_browser or as_json else _opened(found.url):
            tell("Ctrl-C stops it")
            found.serve()
    except KeyboardInterrupt:  # how this command ends
        tell("stopped; pins and finished exports are kept")


@contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open the page in the browser. The address contains the key, and every user of the machine can read command lines, so the
    browser gets a file that only this user can read and that redirects to the address."""
    with ExitStack() as kept:
        try:
            made = tempfile.TemporaryDirectory(prefix="ofa-explore-", ignore_cleanup_errors=True)  # closed to other users, too
            path = Path(kept.enter_context(made)) / "open.html"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(page_to(url))
        except OSError as error:
            tell(f"{tempfile.gettempdir()}: {error.strerror}: no browser was started: open the address above")
        else:
            threading.Thread(target=webbrowser.open, args=[path.as_uri()], daemon=True).start()
        yield


def page_to(url: str) -> str:
    """An HTML page that redirects to the address at once."""
    safe = html.escape(url)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={safe}"><title>ofa explore</title><a href="{safe}">To the explorer</a></html>\n'
    )
