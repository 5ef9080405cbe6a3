"""The routes of the explorer. Errors are answered with a status and {"error": "one line for people"}."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from zipfile import ZipFile

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..arch import Arch
from ..common.advice import ofa
from ..common.files import reading_or_writing
from ..common.readable import quantity, rounded_up
from ..errors import ArchError, DataError, FileError, InfeasibleError, OnceForAllError
from ..picture import STYLE
from ..pipeline import Run
from ..pipeline.run_directory.newest import newest_weights
from .engine import LATENCY, Engine, Models
from .jobs import Jobs
from .looks import Looks, changed_at
from .pins import Pins
from .pool import NetworkPool
from .quick import Quick
from .view import facts, front_json, network, progress, training

STATIC = Path(__file__).parent / "static"
TICK_S = 0.25
BLOCK = 1 << 18  # bytes of an archive sent at a time
LIMITS = ("latency_ms", "macs", "params", "memory_bytes")
Answer = Callable[[Request, dict[str, Any]], Any]


class App:
    """The explorer of one run, without its guard: see `safety.Guard`."""

    def __init__(self, run: Run) -> None:
        self.run, self.engine, self.pins, self.jobs = run, Engine(run), Pins(run.folder), Jobs(run.folder, run.new_place)
        self.looks, self.quick = Looks(run), Quick(run, self.jobs)
        self.stopping: Callable[[], bool] = lambda: False

    def stop(self) -> None:
        """End threads and jobs."""
        self.engine.stop()
        self.quick.stop()
        self.jobs.stop()

    def routes(self) -> Starlette:
        """The web application."""
        post = ["POST"]
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/picture.css", self._picture_style),
                Route("/api/run", _answered(lambda request, body: {**facts(self.engine), "quick": self.quick.state()})),
                Route("/api/quick", _answered(lambda request, body: self.quick.turn(body.get("on") is True)), methods=post),
                Route("/api/best", _answered(self.best)),
                Route("/api/front", _answered(self.front)),
                Route("/api/network", _answered(self.network), methods=post),
                Route("/api/training", _answered(lambda request, body: training(self.run))),
                Route("/api/pins", _answered(lambda request, body: self.pins.read())),
                Route("/api/pins/add", _answered(lambda r, body: self.pins.add(self._arch(body), _text(body))), methods=post),
                Route("/api/pins/{id}/rename", _answered(lambda r, body: self.pins.rename(_id(r), _text(body))), methods=post),
                Route("/api/pins/{id}/remove", _answered(lambda r, body: self.pins.remove(_id(r))), methods=post),
                Route("/api/jobs", _answered(lambda request, body: self.jobs.read())),
                Route("/api/jobs/add", _answered(self.export), methods=post),
                Route("/api/jobs/{id}/cancel", _answered(lambda r, body: self.jobs.cancel(_id(r))), methods=post),
                Route("/api/jobs/{id}/download", _answered(self.download)),
                Route("/api/looks", _answered(self.looked)),
                Route("/api/looks/add", _answered(self.look), methods=post),
                Route("/api/looks/{id}", _answered(lambda r, body: self.looks.get(_id(r)).shown(self.run.metric))),
                Route("/api/looks/{id}/remove", _answered(lambda r, body: self.looks.remove(_id(r))), methods=post),
                Route("/api/looks/{id}/cell/{first}/{second}", _answered(self.cell)),
                Route("/api/looks/{id}/against/{other}", _answered(self.against)),
                Route("/api/photos/{number}", _answered(self.photo)),
                Route("/api/events", self._events),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.engine.start()
        self.jobs.start()
        self.quick.start()
        yield
        await run_in_threadpool(self.stop)

    async def _page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _picture_style(self, request: Request) -> Response:
        return Response(STYLE, media_type="text/css")

    def best(self, request: Request, body: dict[str, Any]) -> Any:
        """The best network in the pool within the limits of the query; also starts a search for a better one."""
        models, pool, _ = self._ready()
        query = request.query_params
        device, limits = query.get("device", ""), self._limits(query, models.costs)
        row = pool.best(limits)
        found, message = None, ""
        if row is None:
            message = _why_none(pool, limits)
        else:
            self.engine.refine(limits)
            found = network(models, models.run.space.archs(pool.genes[row : row + 1])[0], device)
        return {"network": found, "message": message, **progress(self.engine), "refining": self.engine.refining(limits)}

    def front(self, request: Request, body: dict[str, Any]) -> Any:
        """The front of accuracy against one cost, and random networks."""
        models, pool, cloud = self._ready()
        name = request.query_params.get("cost", "macs")
        if name not in models.costs:
            raise ArchError(f"no cost {name!r}: choose from {', '.join(models.costs)}")
        return front_json(pool, cloud, name)

    def network(self, request: Request, body: dict[str, Any]) -> Any:
        """Numbers and picture of a network given by its architecture."""
        models, *_ = self._ready()
        return network(models, self._arch(body), str(body.get("device", "")))

    def export(self, request: Request, body: dict[str, Any]) -> Any:
        """Queue an export."""
        formats, limits = body.get("formats"), body.get("limits", {})
        if not isinstance(formats, list) or not all(isinstance(name, str) for name in formats) or not isinstance(limits, dict):
            raise ArchError("formats must be a list of names, limits an object")
        self.run.weights_hash()  # raises an error unless training has finished
        kept = {name: _positive(name, limits[name]) for name in LIMITS if limits.get(name) is not None}
        return self.jobs.add(
            self._arch(body), name=_name(body), device=str(body.get("device") or "cpu"), formats=list(formats), limits=kept
        )

    def download(self, request: Request, body: dict[str, Any]) -> Any:
        """The folder of a finished export as a zip archive, in an unnamed temporary file that disappears once it is sent."""
        folder = self.jobs.folder_of(_id(request))
        file = TemporaryFile()  # noqa: SIM115  # it is read when this has returned
        with reading_or_writing(folder), ZipFile(file, "w") as archive:  # stored: weights do not compress
            for path in sorted(folder.rglob("*")):
                if "__pycache__" not in path.parts:
                    archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
        file.seek(0)
        headers = {"content-disposition": f'attachment; filename="{folder.name}.zip"'}
        return StreamingResponse(_blocks(file), media_type="application/zip", headers=headers)

    def looked(self, request: Request, body: dict[str, Any]) -> Any:
        """The networks measured image by image, and how many more were measured with other weights or images."""
        try:
            found, others = self.looks.of_now()
        except OnceForAllError as error:  # no weights yet, or no images
            return {"looks": [], "others": 0, "problem": str(error), "exports": []}
        looks = [{"id": look.id, "name": look.facts["name"], "told": look.score_text(self.run.metric)} for look in found]
        return {"looks": looks, "others": others, "problem": "", "exports": list(self.looks.exports())}

    def look(self, request: Request, body: dict[str, Any]) -> Any:
        """Queue the measurement of a network, the "largest" or "smallest" one, or an exported one."""
        ends = {"largest": self.run.space.largest, "smallest": self.run.space.smallest}
        text = str(body.get("arch", ""))
        self.run.require_images()
        if newest_weights(self.run) is None:
            self.run.weights_hash()  # raises an error that says why there are none
        if (export := body.get("export")) is not None:
            if (found := self.looks.exports().get(str(export))) is None:
                raise FileError("no such exported network: reload the page")
            return self.jobs.put("look", name=f"{export}, as exported", arch=found, export=export)
        arch = ends[text]() if text in ends else self._arch(body)
        return self.jobs.put("look", name=_name(body), arch=arch.to_json())

    def cell(self, request: Request, body: dict[str, Any]) -> Any:
        """The photographs of one cell."""
        return self.looks.get(_id(request)).cell(_number(request, "first"), _number(request, "second"))

    def against(self, request: Request, body: dict[str, Any]) -> Any:
        """Where two networks disagree."""
        return self.looks.get(_id(request)).against(self.looks.get(str(request.path_params["other"])), self.run.metric)

    def photo(self, request: Request, body: dict[str, Any]) -> Any:
        """A thumbnail of a held-out image by number."""
        return Response(self.looks.photo(_number(request, "number")), media_type="image/jpeg")

    async def _events(self, request: Request) -> Response:
        """Stream version numbers; when one changes, the page reloads what it shows."""

        async def stream() -> AsyncIterator[str]:
            last = ""
            yield "retry: 1000\n\n"
            while not self.stopping() and not self.engine.stopping.is_set():
                if (now := json.dumps(await run_in_threadpool(self._versions))) != last:
                    last = now
                    yield f"data: {now}\n\n"
                await asyncio.sleep(TICK_S)

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _versions(self) -> dict[str, Any]:
        folder, engine = self.run.folder, self.engine
        jobs = sorted((path.name, changed_at(path)) for path in self.jobs.folder.glob("*.json"))
        return {
            **progress(engine),
            "ready": engine.pool is not None,
            "problem": engine.problem,
            "pins": changed_at(self.pins.path),
            "jobs": [self.jobs.version, sum(time for _, time in jobs), len(jobs)],
            "looks": [changed_at(path) for path in (self.looks.folder, folder / "supernet.safetensors", folder / "specialised")],
            "quick": self.quick.state(),
            "finished": self.run.finished,
            "training": [changed_at(folder / "metrics.jsonl"), changed_at(folder / "supernet.safetensors")],
        }

    def _ready(self) -> tuple[Models, NetworkPool, NetworkPool]:
        if (now := self.engine.now()) is None:
            raise OnceForAllError(self.engine.problem or "still loading")
        return now

    def _arch(self, body: dict[str, Any]) -> Arch:
        arch = Arch.from_json(str(body.get("arch", "")))
        self.run.space.check(arch)
        return arch

    def _limits(self, query: Any, costs: Any) -> dict[str, float]:
        limits = {}
        for name in LIMITS:
            if name in query:
                cost = LATENCY + query.get("device", "") if name == "latency_ms" else name
                if cost not in costs:
                    make = ofa("profile", self.run.folder, "--device", "DEVICE")
                    raise InfeasibleError(f"{query.get('device', '')!r} has not been profiled: {make}")
                limits[cost] = _positive(name, query[name])
        return limits


def _why_none(pool: NetworkPool, limits: dict[str, float]) -> str:
    """Why no network meets the limits: the least possible value of each with the others unchanged."""
    least = {"latency_ms" if name.startswith(LATENCY) else name: pool.smallest(name, limits) for name in limits}
    known = [quantity(name, rounded_up(value)) for name, value in least.items() if value is not None]
    more = f"with the other limits unchanged, allow at least {' or '.join(known)}" if known else "relax more than one limit"
    return f"no network meets these limits: {more}"


def _answered(function: Answer) -> Callable[[Request], Any]:
    """An endpoint that reads JSON, runs in a thread, and reports errors in one line."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await request.json() if request.method == "POST" else {}
            if not isinstance(body, dict):
                raise ArchError("send a JSON object")
            result = await run_in_threadpool(function, request, body)
        except json.JSONDecodeError as error:
            return JSONResponse({"error": f"the body is not JSON ({error})"}, 400)
        except OnceForAllError as error:
            return JSONResponse({"error": " ".join(str(error).split())}, 400)
        except (UnicodeDecodeError, RecursionError):
            return JSONResponse({"error": "the body is not JSON"}, 400)
        except Exception as error:  # a bug, or an edited file: shown in the page, and the server continues
            return JSONResponse({"error": f"unexpected {error!r}: a damaged run directory or a bug"}, 500)
        return result if isinstance(result, Response) else JSONResponse(result)

    return endpoint


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from iter(partial(file.read, BLOCK), b"")


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _text(body: dict[str, Any]) -> str:
    return str(body.get("name", ""))


def _number(request: Request, name: str) -> int:
    text = str(request.path_params[name])
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise DataError(f"{text[:20]!r} is not the number of a class or photograph: reload the page")
    return int(text)


def _name(body: dict[str, Any]) -> str:
    return " ".join(_text(body).split())[:80] or "network"


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < 1e18:
        raise InfeasibleError(f"the limit {name} is {value!r}: it must be a number above 0")
    return number
