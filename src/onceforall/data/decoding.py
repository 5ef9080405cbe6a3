"""Crops of training images that are not cached, decoded by separate processes during training.

Each process is a fresh Python without torch. A thread of this process writes jobs to it and reads crops from it through pipes:
nothing is forked or shared, and it ends when its input ends, even if this process is killed. It holds no list of images: a job
names its originals.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.packages import one_line
from ..errors import DataError, FileError
from .originals import Load, Read, quiet, small

if TYPE_CHECKING:
    from .batches import Draw, TrainBatches

AT_ONCE = 16  # images per job: few enough to divide a batch evenly, many enough to keep the overhead small
EXIT_S = 5.0  # to wait for a process to exit after its output has ended
BEGIN = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from onceforall.data.decoding import serve; serve()"
Crop = NDArray[np.uint8]


class Wanted(NamedTuple):
    """A job: images to decode.

    Attributes:
        loads: the images.
        boxes: (n, 4) crop of each: top, left, height, width.
        shapes: (n, 2) expected height and width of each.
        size: see `originals.small`; `how` likewise.
    """

    loads: Sequence[Load]
    boxes: Sequence[Sequence[int]]
    shapes: Sequence[Sequence[int]]
    size: int
    how: Read

    def crops(self) -> list[Crop]:
        """The crop of each image.

        Raises:
            DataError: an image is gone, damaged or has changed.
        """
        made = []
        for load, (top, left, height, width), shape in zip(self.loads, self.boxes, self.shapes, strict=True):
            pixels = small(load, self.size, self.how)
            if list(pixels.shape[:2]) != list(shape):
                raise DataError(f"{load.name}: the image has changed since the images were opened")
            made.append(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
        return made


class Decoding:
    """The crops of training batches, decoded a few batches ahead by several processes. Use it in a with statement.

    Args:
        batches: the batches to decode.
        processes: number of processes.
        ahead: batches decoded in advance and held in memory.
    """

    def __init__(self, batches: "TrainBatches", *, processes: int, ahead: int) -> None:
        self.batches, self.ahead = batches, ahead
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoding")
        self._own, self._lock = threading.local(), threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._waiting: dict[int, tuple[Draw, list[tuple[NDArray[np.int64], Future[list[Crop]]]]]] = {}

    def __enter__(self) -> "Decoding":
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes at once."""
        with self._lock:
            self._closed = True
        for process in self._started:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # unwritten data
                    if pipe is not None:
                        pipe.close()

    def crops(self, step: int) -> tuple["Draw", list[Crop]]:
        """The random choices of batch `step` and the crops of its images, which are kept until another batch is requested.

        Raises:
            DataError: an image is gone or damaged.
            FileError: a process could not be started, or has died.
        """
        wanted = range(step, step + 1 + self.ahead)
        for other in set(self._waiting) - set(wanted):
            for _, future in self._waiting.pop(other)[1]:
                future.cancel()
        for at in wanted:
            if at not in self._waiting:
                self._waiting[at] = self._submit(at)
        draw, parts = self._waiting[step]
        found: list[Crop | None] = [None] * len(draw.chosen)
        for places, future in parts:
            for place, crop in zip(places.tolist(), future.result(), strict=True):
                found[place] = crop
        return draw, [crop for crop in found if crop is not None]

    def _submit(self, step: int) -> tuple["Draw", list[tuple[NDArray[np.int64], Future[list[Crop]]]]]:
        """Submit a batch as jobs of images that are near each other in the data."""
        images, draw = self.batches.images, self.batches.draw(step)
        positions = images.positions[draw.chosen]
        order = np.argsort(positions, kind="stable")
        parts = []
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            chosen = draw.chosen[places]
            loads = images.part.singles(positions[places])
            sizes = images.shapes[chosen].tolist()
            job = Wanted(loads, draw.boxes[places].tolist(), sizes, images.store.size, images.part.how)
            parts.append((places, self._threads.submit(self._decoded, job)))
        return draw, parts

    def _decoded(self, job: Wanted) -> list[Crop]:
        """The job's crops, decoded by this thread's process."""
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(job, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            crops, error = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise FileError(self._died(process, job)) from None
        if error is not None:
            raise DataError(error)
        decoded: list[Crop] = crops
        return decoded

    def _process(self) -> "subprocess.Popen[bytes]":
        found: subprocess.Popen[bytes] | None = vars(self._own).get("process")
        if found is None:
            with self._lock:
                if self._closed:
                    raise FileError("decoding has ended")  # nobody waits for it
                found = self._own.process = decoder()
                self._started.append(found)
        return found

    def _died(self, process: "subprocess.Popen[bytes]", job: Wanted) -> str:
        try:
            code = process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        why = ", as happens when memory runs out (--max-pixels leaves large images out)" if code == -9 else ""
        names = f"{job.loads[0].name} or one of the {len(job.loads) - 1} images decoded with it"
        what = f"a process decoding training images {how}{why}, perhaps because of {names}"
        return f"{what}: resume with --resume, or use --cache decoded"


def decoder() -> "subprocess.Popen[bytes]":
    """Start a process that runs `serve`.

    Raises:
        FileError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BEGIN],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,  # signals to the group are for the training
        )  # fmt: skip
        assert process.stdin is not None
        pickle.dump(sys.path, process.stdin)
        return process
    except OSError as error:
        raise FileError(f"cannot start a process to decode images ({error.strerror}): try again, or use --cache decoded") from error


def serve() -> None:
    """Decode jobs from standard input until it ends: the main function of a process."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if name in signal.Signals.__members__:
            signal.signal(signal.Signals[name], signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    with quiet(), suppress(EOFError, BrokenPipeError):
        while True:
            job: Wanted = pickle.load(sys.stdin.buffer)
            pickle.dump(_answer(job), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


def _answer(job: Wanted) -> tuple[list[Crop], str | None]:
    try:
        return job.crops(), None
    except DataError as error:
        return [], f"{error}: restore it, and continue with --resume"
    except Exception as error:  # from a library: the training reports it, and this process continues
        return [], f"{job.loads[0].name} or one near it: cannot be decoded ({type(error).__name__}: {one_line(error)})"
