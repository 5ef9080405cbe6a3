"""Exports and measurements, one at a time, each in a separate process, so that it can be cancelled and sliders stay fast.

RUN/explorer/jobs/ID.json holds the state of each job, so that a reloaded page and another explorer see it; an exported network is
in RUN/specialised/explored-ID. An explorer with jobs holds the lock file RUN/explorer/.EXPLORER.lock until it ends, even if it is
killed. The lock shows other explorers whether its jobs are alive; a process id would not, since it may be reused.
"""

import json
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ..arch import Arch
from ..common.files import held, make_folder, one_at_a_time, read_json, write_json
from ..errors import FileError
from ..export import FORMATS
from ..export.place import clear_left

ENDED = ("done", "failed", "cancelled")
PATIENCE_S = 10.0  # between asking a process to stop and killing it
HALF_WRITTEN_S = 60.0  # an older temporary file was left by a killed worker
MOST_WAITING = 20
ID = re.compile(r"[0-9a-f]{12}")  # ids of jobs and explorers


class Jobs:
    """The jobs of a run, {"id", "kind", "name", "arch", "state", "step", "share", …}; exports also "device", "formats", "limits".

    The kinds are those of `worker`; jobs of earlier versions have no kind and are exports.

    `data` is where the images are now, if not at the place in run.json.
    """

    def __init__(self, run: Path, data: str | None = None) -> None:
        self.run, self.data, self.folder = run, data, run / "explorer" / "jobs"
        self.explorer, self.alive, self.signed = secrets.token_hex(6), ExitStack(), False
        self.own: dict[str, dict[str, Any]] = {}
        self.waiting: queue.Queue[str | None] = queue.Queue()
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.running = ""
        self.version = 0
        self.thread = threading.Thread(target=self._work, name="exports", daemon=True)

    def start(self) -> None:
        """Start working on the queue."""
        self.thread.start()

    def stop(self) -> None:
        """Cancel the remaining jobs and wait for them to end."""
        for id in [id for id, job in self.own.items() if job["state"] not in ENDED]:
            with suppress(FileError):  # a full disk
                self.cancel(id)
        self.waiting.put(None)
        if self.thread.is_alive():
            self.thread.join(PATIENCE_S + 5)
        self.alive.close()

    def read(self) -> list[dict[str, Any]]:
        """All jobs, newest first; unfinished jobs count as failed if their explorer has ended."""
        jobs = []
        for id in {path.stem for path in self.folder.glob("*.json")} | {*self.own}:
            try:
                job = {**self.own[id]} if id in self.own else read_json(self.folder / f"{id}.json")
                if job["state"] not in ENDED and id not in self.own and not self._is_alive(job):
                    again = "export it again" if job.get("kind", "export") == "export" else "measure it again"
                    job |= {"state": "failed", "error": f"the explorer that worked on it has ended: {again}"}
                job["there"] = self._target(str(job["id"])).is_dir()
                jobs.append({**job, "own": id in self.own, "made": float(job["made"])})
            except (FileError, KeyError, TypeError, ValueError):
                continue  # damaged or just removed: the others count
        return sorted(jobs, key=lambda job: -job["made"])

    def add(self, arch: Arch, *, name: str, device: str, formats: list[str], limits: dict[str, float]) -> dict[str, Any]:
        """Queue an export.

        Raises:
            FileError: there are no or unknown formats, or too many jobs.
            MissingExtraError: a format needs a package that is not installed.
        """
        if not formats or (unknown := [name for name in formats if name not in FORMATS]):
            raise FileError(f"formats {unknown if formats else '(none)'}: choose from {', '.join(FORMATS)}")
        for format in formats:
            FORMATS[format].require()
        return self.put("export", name=name, arch=arch.to_json(), device=device, formats=formats, limits=limits)

    def put(self, kind: str, **given: Any) -> dict[str, Any]:
        """Queue a job.

        Raises:
            FileError: too many jobs.
        """
        if sum(job["state"] == "waiting" for job in list(self.own.values())) >= MOST_WAITING:
            raise FileError(f"{MOST_WAITING} jobs are waiting, and there may be no more: wait until some are done")
        id = secrets.token_hex(6)
        job: dict[str, Any] = {
            "id": id, "kind": kind, **given, "state": "waiting", "step": "waiting for other jobs", "share": 0.0, "error": "",
            "made": time.time(), "explorer": self.explorer,
        }  # fmt: skip
        make_folder(self.folder)
        self._sign_in()
        self._note(job)
        self.own[id] = job
        self.waiting.put(id)
        return job

    def cancel(self, id: str) -> None:
        """Stop a job that is waiting or running.

        Raises:
            FileError: it does not belong to this explorer.
        """
        with self.lock:
            job = self.own.get(id)
            if job is None:
                raise FileError("this job has ended, or belongs to another explorer of the run: cancel it there")
            if job["state"] in ENDED:
                return
            if id == self.running and self.process is not None:
                job["step"] = "stopping"
                self.process.send_signal(signal.SIGINT)
                timer = threading.Timer(PATIENCE_S, self.process.kill)  # does nothing if it has ended
                timer.daemon = True  # an ending explorer does not wait for it: the worker then ends anyway
                timer.start()
                return
            job |= {"state": "cancelled", "step": "cancelled"}
        self._note(job)

    def folder_of(self, id: str) -> Path:
        """The folder of a finished job's network.

        Raises:
            FileError: there is no such job, it has not finished, or its folder is gone.
        """
        if not ID.fullmatch(id):
            raise FileError("there is no such export: reload the page")
        found = [job for job in self.read() if job["id"] == id]
        if not found or found[0]["state"] != "done" or not found[0]["there"]:
            raise FileError("this export has not finished, or its folder was removed: wait for it, or export the network again")
        return self._target(id)

    def _target(self, id: str) -> Path:
        return self.run / "specialised" / f"explored-{id}"

    def _sign_in(self) -> None:
        """Hold the lock file that shows that this explorer is running."""
        with self.lock:
            if not self.signed:
                self.alive.enter_context(one_at_a_time(self._mark(self.explorer)))
                self.signed = True

    def _is_alive(self, job: dict[str, Any]) -> bool:
        """Whether the job's explorer is still running."""
        explorer = str(job.get("explorer"))
        return ID.fullmatch(explorer) is not None and held(self._mark(explorer))

    def _mark(self, explorer: str) -> Path:
        return self.folder.parent / f".{explorer}.lock"

    def _note(self, job: dict[str, Any]) -> None:
        self.version += 1
        write_json(self.folder / f"{job['id']}.json", job)

    def _work(self) -> None:
        self._clear()
        for path in self.folder.parent.glob(f".{'[0-9a-f]' * 12}.lock"):  # locks of explorers that were killed
            with suppress(FileError), one_at_a_time(path, wait=False):
                pass  # releasing the lock deletes the file
        while (id := self.waiting.get()) is not None:
            job = self.own[id]
            try:
                self._execute(job)
            except Exception as error:  # such as a full disk: shown in the page, and the queue continues
                if job["state"] not in ENDED:
                    job |= {"state": "failed", "step": "failed", "error": " ".join(str(error).split()) or repr(error)}
                with suppress(FileError):  # the same full disk, perhaps
                    self._note(job)
            self._clear()

    def _clear(self) -> None:
        """Remove what killed workers left unfinished."""
        for path in (self.run / "specialised").glob(".explored-*.*"):
            if ".json." not in path.name:
                clear_left(path.with_name(path.stem.removeprefix(".")))
        for path in (self.run / "specialised").glob(".explored-*.json.*.tmp"):  # a file is written within milliseconds
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > HALF_WRITTEN_S:
                    path.unlink()

    def _execute(self, job: dict[str, Any]) -> None:
        with self.lock:
            if job["state"] != "waiting":
                return
            process = self.process = subprocess.Popen(
                [sys.executable, "-m", "onceforall.app.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                errors="replace", start_new_session=True,
            )  # fmt: skip
            self.running = job["id"]
            job |= {"state": "running", "step": "starting"}
        errors: list[str] = []
        reader = threading.Thread(target=errors.extend, args=[process.stderr], daemon=True)
        reader.start()
        try:
            last = self._follow(job, process)
        finally:
            _end(process)
            reader.join(1)
            with self.lock:
                self.running, self.process = "", None
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                with suppress(OSError):
                    pipe.close()
        if "result" in last:
            job |= {"state": "done", "step": "done", "share": 1.0, "result": last["result"]}
        elif job["step"] == "stopping" or last.get("stopped"):
            job |= {"state": "cancelled", "step": "cancelled"}
        else:
            ended = f"the process ended with code {process.returncode}"
            error = last.get("error") or (f"{ended}; its last message: {errors[-1].strip()}" if errors else ended)
            job |= {"state": "failed", "step": "failed", "error": error}
        self._note(job)

    def _follow(self, job: dict[str, Any], process: subprocess.Popen[str]) -> dict[str, Any]:
        """Send the worker its job and record its progress; return its last message."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._note(job)
        given = {"run": str(self.run), "data": self.data, "out": self._target(job["id"]).name, **job}
        # stdin stays open: when it ends, because this explorer was killed, the worker stops
        with suppress(BrokenPipeError):  # it has already ended, and reports why on stderr
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
        last: dict[str, Any] = {}
        for line in process.stdout:
            last = json.loads(line)
            if "step" in last and job["step"] != "stopping":
                job |= {"step": last["step"], "share": last["share"]}
                self._note(job)
        process.wait()
        return last


def _end(process: subprocess.Popen[str]) -> None:
    """Stop a running process and wait for it."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
