"""Programs of exported folders, run in processes that are forked from a Python that has loaded torch and ONNX Runtime.

The product starts a new interpreter for them, which takes two seconds of CPU; `tests/export` and the demo have it do so. Here
everything else is the same: the program's text, its folder, its environment, no onceforall.
"""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

_PARENT = """import json, os, sys, tempfile, traceback
import concurrent.futures, numpy, torch
from PIL import Image
try:
    import onnxruntime
except ImportError:
    pass
Image.init()


def be(job, out):
    try:  # an end by an error that nobody catches would wait for threads that this process does not have
        run(job, out)
    except BaseException:
        os.write(out.fileno(), traceback.format_exc().encode())
        os._exit(1)


def run(job, out):
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.path[:0] = [path for path in job["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    with tempfile.TemporaryFile() as given:
        given.write(job["input"].encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
    for number in (1, 2):
        os.dup2(out.fileno(), number)
    sys.stdin = open(0, encoding="utf-8")
    code = 0
    try:
        exec(compile(job["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else error.code is not None
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            be(json.loads(line), out)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        print(json.dumps([code, out.read().decode(errors="replace")]), file=answers, flush=True)
"""


@cache
def _parent() -> "subprocess.Popen[str]":
    parent = subprocess.Popen([sys.executable, "-B", "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(parent.communicate)  # it ends when its input does
    return parent


def _run(command: list[str], *, input: bytes, cwd: Any, env: dict[str, str], **_: Any) -> "subprocess.CompletedProcess[bytes]":
    *_, code = command
    parent = _parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    print(
        json.dumps({"code": code, "cwd": os.path.abspath(cwd), "env": env, "input": input.decode()}), file=parent.stdin, flush=True
    )
    returncode, said = json.loads(parent.stdout.readline())
    return subprocess.CompletedProcess(command, returncode, b"", said.encode())


FORKED = SimpleNamespace(run=_run)  # in place of `subprocess` in onceforall.export.program
