"""Other programs than ONNX Runtime that read the ONNX files: each installed one is run on the images of the proof.

A program that computes something else, or refuses the file, does not fail the export, as the file may be right and the program
wrong; the result is reported instead. Each program runs in a separate process, so that a crash does no harm.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingExtraError, VerificationError
from . import read_elsewhere
from .proof import INT8, Reference, compare_logits

LIMIT_S = 600.0  # for one program and file; OpenCV takes 5 s for 64 images of 224 pixels in three batch sizes
State = Literal["agrees", "differs", "refuses", "not tried"]


@dataclass(frozen=True)
class _Reader:
    """A program that reads ONNX files.

    Args:
        packages: required packages by import name; packages of Node.js if `node`.
        install: the command that installs it.
        batches: batch sizes that it supports; None for any.
        node: runs in Node.js.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    batches: tuple[int, ...] | None = None
    node: bool = False

    def missing(self) -> str | None:
        """The first package that is not installed; nothing is imported."""
        if self.node:
            node = shutil.which("node")
            if node is None:
                return "node"
            code = f"require.resolve({self.packages[0]!r})"
            done = subprocess.run([node, "-e", code], capture_output=True, check=False)
            return self.packages[0] if done.returncode else None
        return next((package for package in self.packages if importlib.util.find_spec(package) is None), None)


READERS = {
    "opencv": _Reader("OpenCV dnn", ("cv2",), "pip install opencv-python-headless"),
    "openvino": _Reader("OpenVINO", ("openvino",), "pip install openvino"),
    "ncnn": _Reader("ncnn (through pnnx)", ("ncnn", "pnnx"), "pip install ncnn pnnx", batches=(1,)),
    "onnxruntime-web": _Reader("onnxruntime-web", ("onnxruntime-web",), "npm install onnxruntime-web", node=True),
}


@dataclass(frozen=True)
class ReaderResult:
    """The result of running a file in a program.

    Args:
        reader: key of `READERS`.
        version: the program's version; "" if unknown.
        state: "agrees" if it computes what the network computes in at least one batch size, and something else in none.
        batches: batch sizes in which it agrees.
        max_abs_diff: the largest difference over all batch sizes it ran with, as in the proof of ONNX Runtime.
        tolerance: the largest difference allowed.
        top1_agreement: the share of images with the same top-1 class.
        why: its errors for the batch sizes it refused, or where it differs.
    """

    file: str
    reader: str
    version: str = ""
    state: State = "not tried"
    batches: tuple[int, ...] = ()
    max_abs_diff: float | None = None
    tolerance: float | None = None
    top1_agreement: float | None = None
    why: str = ""

    @property
    def warning(self) -> str | None:
        """One line, if the file should not be used in this program, or only in some batch sizes."""
        who = f"{self.file}: {READERS[self.reader].name} {self.version}".rstrip()
        if self.state == "differs":
            return f"{who} computes something else ({self.why}): do not use this file there"
        if self.state == "refuses":
            return f"{who} cannot run it ({self.why}): do not use this file there"
        if self.state == "agrees" and self.why:
            return f"{who} agrees in batches of {_list(self.batches)} only ({self.why})"
        return None


def readers_of(wanted: Sequence[str] | None) -> list[str]:
    """The keys of the readers to try; None for all that are installed.

    Raises:
        VerificationError: there is no such reader, or it is not installed and pip cannot install it.
        MissingExtraError: a requested reader is not installed.
    """
    if wanted is None:
        return [key for key, reader in READERS.items() if reader.missing() is None]
    for key in wanted:
        if key not in READERS:
            raise VerificationError(f"unknown reader {key!r}: choose from {', '.join(READERS)}, or none")
        if missing := READERS[key].missing():
            if READERS[key].node:
                raise VerificationError(f"reader {key!r} needs {missing!r}, which was not found: {READERS[key].install}")
            raise MissingExtraError(missing, "readers")
    return list(dict.fromkeys(wanted))


def read_elsewhere_too(
    path: Path, images: Tensor, expected: Reference, *, readers: Sequence[str], batches: Sequence[int], int8: bool
) -> list[ReaderResult]:
    """Run a file in other programs and compare as `prove` does; the result lists programs that were not tried, too.

    Args:
        expected: the network's logits for the images.
        readers: keys of `READERS` that are installed.
        batches: batch sizes to try, all supported by the file.
        int8: allowed difference, as in `prove`.
    """
    results = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "images.npy"
        np.save(inputs, images.numpy())
        for key, reader in READERS.items():
            if key not in readers:
                results.append(ReaderResult(path.name, key))
                continue
            sizes = [size for size in batches if reader.batches is None or size in reader.batches] or list(batches)
            into = Path(folder) / key
            into.mkdir()
            ended = _run(key, path, inputs, into, sizes)
            results.append(_result(path.name, key, into, ended, expected, sizes, int8))
    return results


def _run(key: str, path: Path, images: Path, into: Path, sizes: Sequence[int]) -> str:
    """Run the process and return how it ended."""
    command = [sys.executable, "-P", read_elsewhere.__file__, key, str(path), str(images), str(into), ",".join(map(str, sizes))]
    log = into / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"it gave no answer within {LIMIT_S:g} s"
        finally:
            if os.name == "nt":
                process.kill()
            else:
                with suppress(ProcessLookupError):  # it has ended with all its children
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code < 0:
        return f"it crashed with {signal.Signals(-code).name}"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"it ended with code {code}" + (f": {lines[-1][:200]}" if lines else "")


def _result(file: str, key: str, into: Path, ended: str, expected: Reference, sizes: Sequence[int], int8: bool) -> ReaderResult:
    """Compare what the program wrote to the folder `into`; `ended` is the reason for batch sizes without a result."""
    version = (into / "version.txt").read_text() if (into / "version.txt").exists() else ""
    refused, wrong, agrees = dict[int, str](), list[str](), list[int]()
    difference, agreement, tolerance = 0.0, 1.0, INT8 * expected.largest if int8 else expected.allowed
    for size in sizes:
        answer, reason = into / f"{size}.npy", into / f"{size}.txt"
        if not answer.exists():
            refused[size] = reason.read_text()[:300] if reason.exists() else ended
            continue
        logits = torch.from_numpy(np.load(answer))
        if logits.shape == expected.logits.shape:
            worst = float((logits.double() - expected.logits).abs().max())
            difference = max(difference, worst if np.isfinite(worst) else np.inf)
            agreement = min(agreement, float((logits.argmax(1) == expected.logits.argmax(1)).double().mean()))
        try:
            compare_logits(file, expected, [logits], tolerance)
            agrees.append(size)
        except VerificationError as error:
            wrong.append(str(error).removeprefix(f"{file}: "))
    state: State = "differs" if wrong else "agrees" if agrees else "refuses"
    why = wrong[0] if wrong else "; ".join(_by_reason(refused, bool(agrees)))
    if not agrees and not wrong:
        return ReaderResult(file, key, version, state, why=why)
    return ReaderResult(file, key, version, state, tuple(agrees), difference, tolerance, agreement, why)


def _by_reason(refused: dict[int, str], some_agree: bool) -> list[str]:
    reasons = dict[str, list[int]]()
    for size, why in refused.items():
        reasons.setdefault(why, []).append(size)
    return [f"{_list(sizes)}: {why}" if some_agree else why for why, sizes in reasons.items()]


def _list(sizes: Sequence[int]) -> str:
    return " and ".join(map(str, sizes))
