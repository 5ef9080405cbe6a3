"""`ofa explore`."""

import json
import threading
import webbrowser
from typing import Annotated

import typer

from .options import Json, RunFolder, tell

__all__ = ["explore"]

Port = Annotated[int, typer.Option(metavar="N", help="0 takes a free one.", min=0, max=65535)]
Address = Annotated[str, typer.Option(metavar="ADDRESS", help="To listen on; others than loopback can be reached by others.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the address only.")]


def explore(
    run: RunFolder, port: Port = 8471, host: Address = "127.0.0.1", no_browser: NoBrowser = False, as_json: Json = False
) -> None:
    """Look at a run in the browser, and export from there."""
    from ..app import explorer

    found = explorer(run, host=host, port=port)
    from ..app.safety import loopback

    if not loopback(host):
        tell(f"{host}: other machines can reach this, unencrypted; who has the address with its key can use the run")
    print(json.dumps({"url": found.url}) if as_json else found.url, flush=True)
    if not no_browser and not as_json:
        threading.Thread(target=webbrowser.open, args=[found.url], daemon=True).start()
    tell("Ctrl-C ends it")
    try:
        found.serve()
    except KeyboardInterrupt:  # how this command ends
        tell("ended; pins and finished exports are kept")
