"""An explorer on a real socket, of a tiny run, for requests and for a real browser."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import httpx
import uvicorn

from onceforall.app import engine, explorer, jobs
from onceforall.app.safety import Guard
from onceforall.app.web import App
from onceforall.app.worker import run_worker
from onceforall.common.files import read_json, write_json
from onceforall.pipeline import fit_predictor
from warm import Ofa


@dataclass
class Served:
    """A running explorer."""

    app: App
    url: str
    key: str
    client: httpx.Client

    def wait(self, path: str, ready: str, value: object = True, seconds: float = 60) -> dict[str, object]:
        """Until the answer has that value."""
        until = time.monotonic() + seconds
        while (found := self.client.get(path).json()).get(ready) != value:
            assert time.monotonic() < until, found
            time.sleep(0.05)
        return dict(found)

    def until(self, true: Callable[["Served"], bool], seconds: float = 120) -> None:
        """Wait until it is; jobs that failed meanwhile are told."""
        end = time.monotonic() + seconds
        while not true(self):
            failed = [job["error"] for job in self.app.jobs.read() if job["state"] == "failed"]
            assert time.monotonic() < end, failed
            assert not failed
            time.sleep(0.05)


def _forked_worker(command: list[str], **_: object) -> Ofa:
    return Ofa([], program=run_worker, asks=True)


# The processes of jobs are forked from one that has loaded torch; `test_explore_jobs` starts them as the product does.
FORKED = SimpleNamespace(Popen=_forked_worker, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)


def serve(run: Path, *, quick: bool = False, thorough: bool = False) -> Iterator[Served]:
    """The explorer in a thread; `quick` measures what a run without a predictor lacks, `thorough` searches as long as for users."""
    rounds, mixes = (engine.ROUNDS, engine.MIXES) if thorough else ((2_000,), 1)
    with mock.patch.object(jobs, "subprocess", FORKED), mock.patch.multiple(engine, ROUNDS=rounds, MIXES=mixes):
        yield from _serve(run, quick)


def _serve(run: Path, quick: bool) -> Iterator[Served]:
    found = explorer(run, port=0)
    app = App(found.run)
    app.quick.paused |= not quick
    guarded = Guard(app.routes(), key=found.key, host=found.host, port=found.port)
    config = uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=1, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    app.stopping = lambda: server.should_exit
    thread = threading.Thread(target=server.run, kwargs={"sockets": [found.socket]})
    thread.start()
    base = found.url.partition("/?")[0]
    with httpx.Client(base_url=base, headers={"x-ofa-key": found.key}, timeout=30) as client:
        try:
            yield Served(app, found.url, found.key, client)
        finally:
            server.should_exit = True
            thread.join(20)
            found.socket.close()


def make_anew(run: Path) -> None:
    """What `ofa profile --again` and `ofa accuracy fit` do: all latencies are twice as long, the predictor is of another kind."""
    (path,) = run.glob("latency/*/table.json")
    table = read_json(path)
    for slot in table["slots"]:
        slot["ms"] = [None if ms is None else 2 * ms for ms in slot["ms"]]
    write_json(path, table)
    fit_predictor(run, kinds=["linear"])
