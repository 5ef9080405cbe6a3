"""Exports, one at a time: each in a process of its own, so that it can be cancelled and sliders stay quick.

RUN/explorer/jobs/ID.json holds what is known of each, so that a reload and another explorer see it; the network itself lies in
RUN/specialised/explored-ID.
"""

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..arch import Arch
from ..errors import FileError
from ..export import FORMATS
from ..files import make_folder, read_json, reading_or_writing, write_json

__all__ = ["Jobs", "zipped"]

ENDED = ("done", "failed", "cancelled")
PATIENCE_S = 10.0  # from asking a process to stop to stopping it
MOST_WAITING = 20
BLOCK = 1 << 18


class Jobs:
    """The exports of a run. A job is {"id", "name", "arch", "device", "formats", "limits", "state", "step", "share", …}."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / "explorer" / "jobs"
        self.own: dict[str, dict[str, Any]] = {}
        self.waiting: queue.Queue[str | None] = queue.Queue()
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.running = ""
        self.version = 0
        self.thread = threading.Thread(target=self._work, name="exports", daemon=True)

    def start(self) -> None:
        """Begin to work on the queue."""
        self.thread.start()

    def stop(self) -> None:
        """Cancel what is left, and wait for it."""
        for id in [id for id, job in self.own.items() if job["state"] not in ENDED]:
            self.cancel(id)
        self.waiting.put(None)
        if self.thread.is_alive():
            self.thread.join(PATIENCE_S + 5)

    def read(self) -> list[dict[str, Any]]:
        """All jobs, the newest first; those of explorers that have ended are not going on."""
        jobs = []
        for path in self.folder.glob("*.json"):
            try:
                job = {**self.own[path.stem]} if path.stem in self.own else read_json(path)
                if job["state"] not in ENDED and path.stem not in self.own and not _alive(int(job["process"])):
                    job |= {"state": "failed", "error": "the explorer that worked on it has ended: export it again"}
                job["there"] = self._target(str(job["id"])).is_dir()
                jobs.append({**job, "own": path.stem in self.own, "made": float(job["made"])})
            except (FileError, KeyError, TypeError, ValueError):
                continue  # damaged or just removed: the others count
        return sorted(jobs, key=lambda job: -job["made"])

    def add(self, arch: Arch, *, name: str, device: str, formats: list[str], limits: dict[str, float]) -> dict[str, Any]:
        """Put an export into the queue.

        Raises:
            FileError: no or unknown formats, or too many jobs.
            MissingExtraError: a format needs a package that is not installed.
        """
        if not formats or (unknown := [one for one in formats if one not in FORMATS]):
            raise FileError(f"formats {unknown if formats else '(none)'}: choose from {', '.join(FORMATS)}")
        for one in formats:
            FORMATS[one].require()
        if sum(job["state"] == "waiting" for job in self.own.values()) >= MOST_WAITING:
            raise FileError(f"{MOST_WAITING} exports are waiting, which is the most: wait until some are done")
        id = secrets.token_hex(6)
        job = {
            "id": id, "name": name, "arch": arch.to_json(), "device": device, "formats": formats, "limits": limits,
            "state": "waiting", "step": "waiting for its turn", "share": 0.0, "error": "", "made": time.time(),
            "process": os.getpid(),
        }  # fmt: skip
        make_folder(self.folder)
        self.own[id] = job
        self._note(id)
        self.waiting.put(id)
        return job

    def cancel(self, id: str) -> None:
        """Stop a job that is waiting or running.

        Raises:
            FileError: it is not of this explorer.
        """
        with self.lock:
            job = self.own.get(id)
            if job is None:
                raise FileError("this export belongs to another explorer on the run, or has ended: cancel it there")
            if job["state"] in ENDED:
                return
            if id == self.running and self.process is not None:
                job["step"] = "stopping"
                self.process.send_signal(signal.SIGINT)
                threading.Timer(PATIENCE_S, _kill, [self.process]).start()
                return
            job |= {"state": "cancelled", "step": "cancelled"}
        self._note(id)

    def folder_of(self, id: str) -> Path:
        """Where the network of a finished job lies.

        Raises:
            FileError: no such job, or not finished, or its folder is gone.
        """
        if len(id) != 12 or not set(id) <= set("0123456789abcdef"):
            raise FileError("no such export")
        found = [job for job in self.read() if job["id"] == id]
        if not found or found[0]["state"] != "done" or not found[0]["there"]:
            raise FileError("this export is not there: it has not finished, or its folder was removed")
        return self._target(id)

    def _target(self, id: str) -> Path:
        return self.run / "specialised" / f"explored-{id}"

    def _note(self, id: str) -> None:
        self.version += 1
        write_json(self.folder / f"{id}.json", self.own[id])

    def _work(self) -> None:
        while (id := self.waiting.get()) is not None:
            try:
                self._carry_out(id)
            except Exception as error:  # such as a full disk: told in the page, and the queue goes on
                self.own[id] |= {"state": "failed", "error": " ".join(str(error).split())}
                self.version += 1

    def _carry_out(self, id: str) -> None:
        job = self.own[id]
        with self.lock:
            if job["state"] != "waiting":
                return
            self.process = subprocess.Popen(
                [sys.executable, "-m", "onceforall.app.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            self.running = id
            job |= {"state": "running", "step": "starting"}
        self._note(id)
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[str] = []
        reader = threading.Thread(target=errors.extend, args=[process.stderr], daemon=True)
        reader.start()
        # stdin stays open: when it ends, because this explorer was killed, the worker stops
        process.stdin.write(json.dumps({"run": str(self.run), "out": f"explored-{id}", **job}) + "\n")
        process.stdin.flush()
        last: dict[str, Any] = {}
        for line in process.stdout:
            last = json.loads(line)
            if "step" in last and job["step"] != "stopping":
                job |= {"step": last["step"], "share": last["share"]}
                self._note(id)
        code = process.wait()
        reader.join(1)
        with self.lock:
            self.running, self.process = "", None
        if "result" in last:
            job |= {"state": "done", "step": "done", "share": 1.0, "result": last["result"]}
        elif job["step"] == "stopping" or last.get("stopped"):
            job |= {"state": "cancelled", "step": "cancelled"}
        else:
            said = last.get("error") or (errors[-1].strip() if errors else f"the process ended with code {code}")
            job |= {"state": "failed", "step": "failed", "error": said}
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        self._note(id)


def zipped(folder: Path) -> Iterator[bytes]:
    """A zip archive of the folder's files, piece by piece: nothing is held in memory or written to the disk."""
    sink: Any = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            info = zipfile.ZipInfo.from_file(path, f"{folder.name}/{path.relative_to(folder)}")
            info.compress_type = zipfile.ZIP_DEFLATED
            with reading_or_writing(path), open(path, "rb") as file, archive.open(info, "w") as entry:
                while block := file.read(BLOCK):
                    entry.write(block)
                    yield sink.taken()
    yield sink.taken()


class _Sink:
    """A file that can only be written, and is emptied on the way."""

    mode = "wb"

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.written = 0

    def write(self, data: bytes, /) -> int:
        self.blocks.append(bytes(data))
        self.written += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.written

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError("this can only be written")

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        """What was written since the last time."""
        data, self.blocks = b"".join(self.blocks), []
        return data


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
