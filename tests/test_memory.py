"""Freed memory is kept where that was asked for, by commands that compute and not by those that time other people's runtimes."""

import subprocess
import sys

import pytest

from onceforall import cli
from onceforall.common.memory import keep_freed_memory

PAGES = """
import resource, sys, torch
from onceforall.common.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def once():
    parts = [torch.ones(10_000_000) for _ in range(3)]
for _ in range(5):  # until the holes between aligned blocks are large enough
    once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in str(__import__("os").confstr("CS_GNU_LIBC_VERSION")), reason="glibc")
def test_pages_are_kept() -> None:
    kept, given = (
        int(subprocess.run([sys.executable, "-c", PAGES, way], check=True, capture_output=True, text=True).stdout)
        for way in ("keep", "give")
    )
    assert kept < 1000 < 10_000 < given, "10 times 120 MB are 293,000 pages of 4 KiB"


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


@pytest.mark.parametrize(("command", "kept"), [("status", True), ("--help", True), ("measure", False), ("explore", False)])
def test_which_commands(monkeypatch: pytest.MonkeyPatch, command: str, kept: bool) -> None:
    """Not a program that only calls `run`."""
    called: list[bool] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: called.append(True))
    monkeypatch.setattr(sys, "argv", ["ofa", command, "--help"])
    assert cli.run([command, "--help"]) == 0
    assert not called
    with pytest.raises(SystemExit):
        cli.main()
    assert called == [True] * kept
