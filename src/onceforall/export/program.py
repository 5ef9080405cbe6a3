"""The program that a card shows, and the same program run over many photographs in a separate Python process.

So the accuracy on a card is that of its program, which uses only the folder (preprocess.py and the network's file), the original
photographs, and the packages of this environment without onceforall.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import preprocess
from ..common.files import reading_or_writing, write_text
from ..common.processors import processors
from ..errors import VerificationError

PREPROCESS = "preprocess.py"
PHOTO = '"photo.jpg"'
MOST_AT_ONCE = 4  # photographs decoded at once: one of 178 million pixels takes gigabytes
ONCE = """import json
from pathlib import Path

from preprocess import prepare  # preprocess.py of this folder

config = json.loads(Path("config.json").read_text(encoding="utf-8"))"""
ACCURACY = (
    "Test accuracy is that of the program under Use on the original files of all test images, run from this folder in a separate "
    "Python process."
)
PREPARE = f'x = prepare({PHOTO}, config["preprocessing"])'

CHILD = """import ast, gc, json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np

sys.modules["onceforall"] = None  # users of the folder may not have it
job = json.load(sys.stdin)
scopes, xs = {}, {}
gc.disable()  # imported objects stay; collecting during the imports takes a fifth of torch's import time


def prepared(prepare, photo):
    scope = dict(prepare[0], photo=photo)
    try:
        exec(prepare[1], scope)
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {photo}: {error}")
    return scope["x"]


def answer(name, photo, enough):
    # runs a batch once enough images are waiting; an incomplete batch is padded with copies of its last image
    scope, images, size = scopes[name], waiting[name], job["programs"][name]["batch"]
    if len(images) < enough:
        return
    scope["x"] = np.concatenate(images + images[-1:] * (size - len(images))) if size > 1 else images[0]
    try:
        exec(job["programs"][name]["each"], scope)
        results[name].extend(np.asarray(scope.pop("logits"), np.float32)[: len(images)])
    except Exception as error:
        sys.exit(f"{name}: {photo}: {type(error).__name__}: {error}")
    images.clear()


for name, program in job["programs"].items():
    body = ast.parse(program["usage"]).body
    scope = scopes[name] = {"__name__": "card"}
    try:
        exec(program["once"], scope)
        exec(compile(ast.Module(body[:-1], []), name, "exec"), scope)
    except Exception as error:
        sys.exit(f"{name}: {type(error).__name__}: {error}")
    program["each"] = compile(ast.Module(body[-1:], []), name, "exec")
    xs.setdefault(program["image"], (scope, compile(program["image"], name, "exec")))
gc.enable()
results, waiting = ({name: [] for name in scopes} for _ in range(2))
with ThreadPoolExecutor(job["threads"]) as pool:
    for start in range(0, len(job["photos"]), 64):
        photos = job["photos"][start : start + 64]
        for image, prepare in xs.items():
            try:
                images = list(pool.map(lambda photo: prepared(prepare, photo), photos))
            except Exception as error:
                sys.exit(str(error))
            for name, program in job["programs"].items():
                if program["image"] == image:
                    for photo, x in zip(photos, images):
                        waiting[name].append(x)
                        answer(name, photo, program["batch"])
for name, program in job["programs"].items():
    if waiting[name]:
        answer(name, photos[-1], len(waiting[name]))
np.savez(job["out"], *[np.stack(results[name]) for name in job["programs"]])
"""


@dataclass(frozen=True)
class Program:
    """Python code that classifies a photograph in the folder of an exported network.

    Args:
        once: imports, and files that are read once.
        image: computes `x` from "photo.jpg".
        usage: its last statement computes `logits` (1, classes) from `x`; earlier statements run once.
        batch: number of photographs that `usage` takes at once, as `x` (batch, …), when there are many.
    """

    once: str
    image: str
    usage: str
    batch: int = 1

    @property
    def preparing(self) -> str:
        """The part that all formats share."""
        return f"{self.once}\n{self.image}"


def program_of(usage: str, batch: int = 1) -> Program:
    """The program of one network's folder, with a format's `usage`."""
    return Program(ONCE, PREPARE, usage, batch)


def write_preprocess(folder: Path) -> None:
    """Write preprocess.py beside a network."""
    write_text(folder / PREPROCESS, Path(preprocess.__file__).read_text(encoding="utf-8"))


def run_programs(folder: Path, programs: Mapping[str, Program], photos: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """Run programs on photographs; each gives logits (photographs, classes).

    One Python process runs them all, one photograph at a time, or as many as a program takes at once. Several threads prepare the
    photographs, only once for programs with the same preparation.

    Args:
        programs: the programs by name, which messages use.
        photos: image files.

    Raises:
        VerificationError: a program fails; the message contains its error.
    """
    texts = {
        name: {"once": program.once, "image": program.image.replace(PHOTO, "photo"), "usage": program.usage, "batch": program.batch}
        for name, program in programs.items()
    }
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "logits.npz"
        paths = [os.path.abspath(photo) for photo in photos]
        job = {"programs": texts, "photos": paths, "out": str(out), "threads": min(processors(), MOST_AT_ONCE)}
        done = subprocess.run(
            [sys.executable, "-B", "-c", CHILD],
            input=json.dumps(job).encode(),
            capture_output=True,
            cwd=folder,
            env=_environment(),
            check=False,
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise VerificationError(f"{folder}: the card's program fails in a separate Python process: {lines[-1]}")
        with reading_or_writing(out), np.load(out, allow_pickle=False) as arrays:
            return dict(zip(programs, (arrays[name] for name in arrays.files), strict=True))


def _environment() -> dict[str, str]:
    """This process's environment variables, without those that make onceforall importable or change where Python looks."""
    ours = Path(preprocess.__file__).resolve().parent.parent
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path).resolve() != ours]
    dropped = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONSTARTUP", "PYTHONWARNINGS")
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**variables, "PYTHONPATH": os.pathsep.join(paths)} if paths else variables
