"""The process of one job: reads the job from standard input and writes its progress as JSON lines to standard output.

It stops cleanly on SIGINT, and when standard input ends, which means that the explorer has ended.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from ..arch import Arch
from ..common.files import make_folder, one_at_a_time
from ..common.memory import keep_freed_memory
from ..common.progress import Progress
from ..errors import OnceForAllError
from ..scores import scores_in_words

STEPS = 4  # steps of an export


def run_worker() -> None:
    """Run the job."""
    answers = os.fdopen(os.dup(1), "w")  # for the explorer only: output of libraries goes to standard error
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignoring it, as under nohup, is inherited
    keep_freed_memory()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, daemon=True).start()

    def tell(step: str, share: float) -> None:
        _say(answers, {"step": step, "share": round(share, 3)})

    try:
        run = Path(job["run"])
        tell("waiting for another explorer's job", 0.0)
        with one_at_a_time(make_folder(run / "explorer") / ".export.lock"):
            from ..pipeline.run_directory.environment import fit_threads

            fit_threads()
            execute = {"export": _export, "look": _look, "quick": _quick}[job.get("kind", "export")]
            _say(answers, {"result": execute(run, job, tell)})
    except OnceForAllError as error:
        _say(answers, {"error": " ".join(str(error).split())})
        sys.exit(1)
    except KeyboardInterrupt:
        _say(answers, {"stopped": True})
        sys.exit(130)
    except (OSError, RuntimeError, MemoryError) as error:
        _say(answers, {"error": f"unexpected: {' '.join(str(error).split()) or repr(error)}"})
        sys.exit(70)


def _export(run: Path, job: dict[str, Any], tell: Any) -> dict[str, Any]:
    from ..pipeline import Budget, Run, specialise

    tell("opening the run and its images", 0.1)
    arch, budget, steps = Arch.from_json(job["arch"]), Budget(**job["limits"]), count(1)
    (made,) = specialise(
        run,
        [budget],
        device=job["device"],
        data=job["data"],
        export=job["formats"],
        arch=arch,
        name=job["out"],
        progress=Progress(say=lambda text: tell(_plain(text), min(0.95, 0.1 + next(steps) / STEPS))),
    )
    return {
        "told": scores_in_words(Run.open(run).metric, asdict(made.test)),
        "test": asdict(made.test),
        "latency": asdict(made.latency),
        "files": [asdict(row) for row in made.files],
        "left_out": dict(made.left_out),
        "warnings": [reading.warning for reading in made.readers if reading.warning is not None],
        "held_out_top1": made.held_out_top1,
    }


def _look(run: Path, job: dict[str, Any], tell: Any) -> dict[str, Any]:
    from ..pipeline import Run
    from .looks import measure_look

    opened = Run.open(run, job["data"])
    arch, export = Arch.from_json(job["arch"]), job.get("export")
    look = measure_look(opened, job["id"], job["name"], arch, export=export, progress=_telling(tell))
    return {"told": look.score_text(opened.metric)}


def _quick(run: Path, job: dict[str, Any], tell: Any) -> dict[str, Any]:
    from ..pipeline import Run
    from .quick import measure_quickly

    return asdict(measure_quickly(Run.open(run, job["data"]), progress=_telling(tell)))


def _telling(tell: Any) -> Progress:
    """Progress that reports each step, with the share that was counted last."""
    share = 0.05

    def count(done: int, total: int, note: str) -> None:
        nonlocal share
        share = 0.1 + 0.85 * done / total
        tell(note, share)

    return Progress(say=lambda text: tell(text, share), count=count)


def _plain(step: str) -> str:
    return "exporting, verifying and measuring the files" if step.startswith("exporting") else step


def _say(answers: TextIO, record: dict[str, Any]) -> None:
    try:
        print(json.dumps(record), file=answers, flush=True)
    except BrokenPipeError:  # the explorer has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())


def _watch() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    run_worker()
