"""How many processors may be used, by affinity and by control groups; and that threads spin briefly, unless the user says more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from onceforall.cli import run
from onceforall.common.processors import SPINNING, cpu_quota, processors

V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
WAITING = (*SPINNING, "OMP_WAIT_POLICY")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's affinity and control groups")


def tree(root: Path, mounts: list[str], groups: str, files: dict[str, str]) -> Path:
    """A file system with what Linux tells of control groups."""
    for name, text in {"proc/self/mountinfo": "\n".join(mounts), "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "quota"),
    [
        ([V2], "0::/", {}, None),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ([V2], "0::/a/b", {"sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 1.5),
        ([V2], "0::/a/b", {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "50000 25000"}, 2.0),
        ([V2], "0::/a", {"sys/fs/cgroup/other/cpu.max": "100000 100000"}, None),
        ([V2], "0::/../out", {"sys/fs/cgroup/cpu.max": "100000 100000", "sys/fs/out/cpu.max": "1 100000"}, 1.0),
        ([V2.replace(" / ", " /docker/x ")], "0::/docker/x", {"sys/fs/cgroup/cpu.max": "100000 50000"}, 2.0),
        ([V2.replace(" / ", " /docker/x ")], "0::/docker/x/in", {"sys/fs/cgroup/in/cpu.max": "100000 50000"}, 2.0),
        ([V2.replace(" / ", " /docker/x ")], "0::/docker/xy", {"sys/fs/cgroup/y/cpu.max": "100000 50000"}, None),
        ([V2.replace("/sys/fs/cgroup", r"/my\040groups")], "0::/", {"my groups/cpu.max": "100000 100000"}, 1.0),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "100000 0"}, None),
        ([V1], "4:cpu,cpuacct:/", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ([V1, OTHER], "5:memory:/m\n4:cpu,cpuacct:/", {"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}, 2.5),
        ([V1], "4:cpu,cpuacct:/docker/x", {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}, 1.0),
        ([V1], "4:cpu,cpuacct:/a", {"a/cpu.cfs_quota_us": "50000", "a/cpu.cfs_period_us": "100000"}, 0.5),
        ([V1], "4:cpu,cpuacct:/a", {"a/cpu.cfs_quota_us": "50000"}, None),
        ([OTHER], "5:memory:/", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, None),
        ([V2, "", "torn", "1 2 3"], "0::/\n\ntorn", {"sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
    ],
)
def test_quotas(tmp_path: Path, mounts: list[str], groups: str, files: dict[str, str], quota: float | None) -> None:
    at = "sys/fs/cgroup/cpu,cpuacct"
    files = {name if "/fs/" in name or "groups" in name else f"{at}/{name}": text for name, text in files.items()}
    assert cpu_quota(tree(tmp_path, mounts, groups, files)) == quota


def test_both_versions_at_once(tmp_path: Path) -> None:
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {f"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_{name}_us": text for name, text in (("quota", "300000"), ("period", "100000"))}
    root = tree(tmp_path, [V1, unified], "4:cpu,cpuacct:/a\n0::/b", {**files, "sys/fs/cgroup/unified/b/cpu.max": "400000 100000"})
    assert cpu_quota(root) == 3.0


def test_what_cannot_be_read_sets_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    root = tree(tmp_path, [V2], "0::/a", {"sys/fs/cgroup/cpu.max": "100000 100000"})
    (root / "sys/fs/cgroup/a/cpu.max").mkdir(parents=True)  # not a file
    assert cpu_quota(root) == 1.0


@linux
@given(quota=st.integers(1, 10_000_000), period=st.integers(1000, 1_000_000))
def test_a_quota_counts_rounded_up(tmp_path_factory: pytest.TempPathFactory, quota: int, period: int) -> None:
    root = tree(tmp_path_factory.mktemp("root"), [V2], "0::/", {"sys/fs/cgroup/cpu.max": f"{quota} {period}"})
    usable = len(os.sched_getaffinity(0))
    found = processors(root)
    assert 1 <= found <= usable
    assert found == usable or (found - 1) * period < quota <= found * period


def test_other_systems_have_what_they_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert processors(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors(tmp_path) == 1


def told(code: str, **environment: str) -> str:
    """What a Python of its own prints, with no other variables about waiting and threads than those given."""
    own = {key: value for key, value in os.environ.items() if key not in (*WAITING, "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**own, **environment})
    return done.stdout.strip()


BOUND = f"""
import os, sys
assert "torch" not in sys.modules
import onceforall
assert "torch" not in sys.modules, "it must be told before it is loaded"
print(*(os.environ.get(name, "-") for name in {WAITING}))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000 1 -"),
        ({"GOMP_SPINCOUNT": ""}, "10000 1 -"),
        ({"GOMP_SPINCOUNT": "7"}, "7 1 -"),
        ({"KMP_BLOCKTIME": "200"}, "10000 200 -"),
        ({"OMP_WAIT_POLICY": "passive"}, "- - passive"),
        ({"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "infinite"}, "infinite - ACTIVE"),
    ],
)
def test_waiting_is_bounded_unless_the_user_says_how(given: dict[str, str], expected: str) -> None:
    assert told(BOUND, **given) == expected


def test_nothing_is_set_when_torch_is_loaded_already() -> None:
    code = "import sys, os; sys.modules['torch'] = sys; import onceforall; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert told(code) == "None"


def test_libgomp_reads_the_bound() -> None:
    """torch's own library says what it was told, where torch has this library."""
    code = "import onceforall, torch; torch.ones(100_000).add_(1)"
    environment = {key: value for key, value in os.environ.items() if key not in WAITING} | {"OMP_DISPLAY_ENV": "verbose"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stderr
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch has another OpenMP here")
    assert "GOMP_SPINCOUNT = '10000'" in shown


@linux
def test_one_processor_of_several() -> None:
    code = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from onceforall.cli import run
run(["devices"])
import torch
from onceforall.latency import Device
from onceforall.latency.networks import require_threads
from onceforall.pipeline.run_directory.environment import environment
print(torch.get_num_threads(), environment()["cores"])
try:
    require_threads(Device("pytorch", threads=2))
except Exception as error:
    print(error)
"""
    *devices, counts, refused = told(code).splitlines()
    assert any(line.startswith("pytorch: ") and line.endswith(", 1 thread") for line in devices)
    assert "up to" not in "".join(devices)
    assert counts == "1 1"
    have = os.cpu_count()
    which = "processor" if have == 1 else "processors, of which this process may use 1"
    assert refused == f"threads is 2, this machine has {have} {which}: use at most 1 thread"


@pytest.mark.parametrize(("variable", "threads"), [("", 1), ("2", 2)])
def test_commands_fit_their_threads_to_a_quota(
    monkeypatch: pytest.MonkeyPatch, variable: str, threads: int, tmp_path: Path
) -> None:
    """A container's share is not known to torch. OMP_NUM_THREADS wins."""
    monkeypatch.setattr("onceforall.cli.command.cpu_quota", lambda: 0.5)
    monkeypatch.setattr("onceforall.pipeline.run_directory.environment.processors", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    before = torch.get_num_threads()
    with threadpool_limits(2):
        try:
            torch.set_num_threads(2)
            assert run(["status", str(tmp_path)]) == 1  # not a run directory, but a command
            assert torch.get_num_threads() == threads
            assert max(library["num_threads"] for library in threadpool_info()) == threads
        finally:
            torch.set_num_threads(before)


@linux
def test_a_quota_holds_for_scipy_which_is_loaded_later() -> None:
    code = """
import sys
from onceforall.cli import command, run
from onceforall.pipeline.run_directory import environment
command.cpu_quota, environment.processors = lambda: 0.5, lambda: 1
run(["devices"])
assert "scipy" not in sys.modules
import scipy.linalg
from threadpoolctl import threadpool_info
print(*{library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
"""
    assert told(code).splitlines()[-1] == "1"
