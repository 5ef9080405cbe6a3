"""Exports when something goes wrong: explorers and workers that were killed, a disk that takes nothing, SIGINT that is ignored."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onceforall.app.jobs import Jobs
from onceforall.arch import Arch
from onceforall.common.files import make_folder, one_at_a_time, read_json, write_json
from onceforall.errors import FileError
from small_spaces import SMALL, SPACES

ARCH = SPACES[SMALL[0]].smallest()
ADD = """
import sys, time
from pathlib import Path
from onceforall.app.jobs import Jobs
from onceforall.arch import Arch
arch = Arch.from_json(sys.argv[2])
print(Jobs(Path(sys.argv[1])).add(arch, name="x", device="cpu", formats=["pytorch"], limits={})["id"], flush=True)
time.sleep(600)
"""


def add(jobs: Jobs, arch: Arch = ARCH) -> str:
    return str(jobs.add(arch, name="x", device="cpu", formats=["pytorch"], limits={})["id"])


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Of a folder that is no run: each export fails as soon as its turn comes."""
    made = Jobs(tmp_path)
    yield made
    made.stop()


def test_jobs_of_a_killed_explorer_do_not_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path), ARCH.to_json()], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    id, other = process.stdout.readline().strip(), Jobs(tmp_path)
    assert [(job["id"], job["state"], job["own"]) for job in other.read()] == [(id, "waiting", False)]
    process.kill()
    process.communicate()
    # as a later process that got the same number makes it look like
    path = tmp_path / f"explorer/jobs/{id}.json"
    write_json(path, {**read_json(path), "process": os.getpid()})
    (job,) = other.read()
    assert (job["state"], job["error"]) == ("failed", "the explorer that worked on it has ended: export it again")
    other.start()
    until(lambda: not list((tmp_path / "explorer").glob(".*.lock")))
    other.stop()


def test_a_full_disk_ends_the_worker_and_not_the_queue(jobs: Jobs) -> None:
    first, second = add(jobs), add(jobs)
    with one_at_a_time(jobs.folder.parent / ".export.lock"):  # the worker waits for it
        jobs.start()
        path = jobs.folder / f"{first}.json"
        until(lambda: read_json(path)["step"].startswith("waiting for another explorer"))
        process = jobs.process
        assert process is not None
        path.unlink()
        make_folder(path)  # now the file cannot be written
    until(lambda: jobs.own[first]["state"] == "failed")
    until(lambda: jobs.own[second]["state"] == "failed")
    states = {job["id"]: job["error"] for job in jobs.read()}
    assert f"{first}.json: this is a folder, a file is needed" in states[first]
    assert "not a run directory" in states[second]
    assert process.returncode is not None
    until(lambda: jobs.process is None)


def test_a_job_that_cannot_be_noted_is_not_kept(jobs: Jobs) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(FileError, match="File too large"):
            add(jobs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not jobs.own
    assert jobs.read() == []


def test_cancelling_where_sigint_is_ignored(tmp_path: Path) -> None:
    """As in an explorer that was started by nohup, or by a script with &."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", "onceforall.app.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert worker.stdin is not None
    assert worker.stdout is not None
    with one_at_a_time(make_folder(tmp_path / "explorer") / ".export.lock"):
        worker.stdin.write(json.dumps({"run": str(tmp_path)}) + "\n")
        worker.stdin.flush()
        assert "waiting for another" in worker.stdout.readline()
        worker.send_signal(signal.SIGINT)
        try:
            assert worker.wait(30) == 130
        finally:
            worker.kill()
    assert json.loads(worker.stdout.read()) == {"stopped": True}
    worker.stdin.close()
    worker.stdout.close()


def test_what_libraries_print_is_no_answer(tmp_path: Path) -> None:
    program = """
import os
from onceforall.app import worker
worker._export = lambda run, job, tell: os.write(1, b"noise") and print("more") or {}
worker.run_worker()
"""
    with subprocess.Popen([sys.executable, "-c", program], text=True, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps({"run": str(tmp_path)}) + "\n")
        process.stdin.flush()
        answers = [json.loads(line) for line in process.stdout]
        assert answers[-1] == {"result": {}}
        assert "noise" in process.stderr.read()


def test_what_killed_workers_left_is_removed(jobs: Jobs) -> None:
    place = jobs.run / "specialised"
    dead, alive, own = (make_folder(place / f"{name}") for name in (".explored-0.tmp", ".explored-1.tmp", ".mine.tmp"))
    (dead / "model.py").write_text("half")
    (place / ".explored-0.lock").touch()
    torn, fresh = place / ".explored-2.json.77.tmp", place / ".explored-3.json.78.tmp"
    for path in (torn, fresh):
        path.touch()
    os.utime(torn, (0, 0))
    with one_at_a_time(place / ".explored-1.lock"):
        jobs.start()
        until(lambda: not dead.exists() and not (place / ".explored-0.lock").exists() and not torn.exists())
        assert fresh.exists(), "another explorer's worker may be writing it"
        fresh.unlink()
        assert alive.exists()
        assert own.exists()
    add(jobs)  # after each export, too
    until(lambda: not alive.exists() and not (place / ".explored-1.lock").exists())
    assert [path.name for path in place.iterdir()] == [".mine.tmp"]
