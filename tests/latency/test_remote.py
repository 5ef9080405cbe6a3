"""Another machine: a real sshd on loopback, a connection that breaks, and hosts that talk nonsense."""

import ast
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

import onceforall
from onceforall import Space
from onceforall.backends import RUNTIMES
from onceforall.common.onnx_options import HARD_SWISH, OPSET
from onceforall.errors import DeviceError
from onceforall.latency import Device, Effort, profile_space
from onceforall.latency.device import Host
from onceforall.latency.remote import RemoteMeter, RemoteModel, Ssh
from onceforall.latency.remote.agent import _alive
from onceforall.latency.remote.bundle import agent_zip
from onceforall.latency.remote.meter import has_size

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
HAVE_SSH = all(shutil.which(name) for name in ("ssh", "ssh-keygen")) and os.path.exists(SSHD)
needs_ssh = pytest.mark.skipif(not HAVE_SSH, reason="needs OpenSSH's client and server")
TINY = Effort(resolutions=1, fit=6, test=4, passes=2, rounds=2, limit=float("inf"))


@dataclass
class Server:
    host: Host
    options: list[str]
    process: subprocess.Popen[bytes]
    home: Path

    def ssh(self, **arguments: object) -> Ssh:
        return Ssh(self.host, options=self.options, **arguments)  # type: ignore[arg-type]

    def cut(self) -> None:
        """End every session, not the server."""
        for task in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = task.read_text().partition(") ")
            except OSError:
                continue
            if "sshd" in name and rest.split()[1] == str(self.process.pid):
                os.kill(int(task.parent.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not HAVE_SSH:
        pytest.skip("needs OpenSSH's client and server")
    base = tmp_path_factory.mktemp("sshd")
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", base / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = base / "home"
    home.mkdir()
    python = base / "python"  # an account of its own: another home, and no torch
    blocked = "import sys; sys.modules['torch'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH= OMP_NUM_THREADS=1\nexec "{sys.executable}" -c "{blocked}" "$@"\n')
    python.chmod(0o755)
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {base / 'host'}", f"AuthorizedKeysFile {base / 'user.pub'}",
        "StrictModes no", "UsePAM no", f"PidFile {base / 'pid'}", f"ForceCommand cd {home} && eval \"$SSH_ORIGINAL_COMMAND\"",
    ]  # fmt: skip
    (base / "config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(base / "config")], stderr=subprocess.DEVNULL)
    options = ["-F", "/dev/null", "-i", str(base / "user"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"]  # fmt: skip
    made = Server(Host("127.0.0.1", port=port, python=str(python)), options, process, home)
    for _ in range(100):
        try:
            made.ssh()("true")
            break
        except DeviceError:
            time.sleep(0.05)
    yield made
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def space() -> Space:
    return onceforall.space("mobilenet_v3", width=0.1, resolutions=(16,), depths=(1,), kernels=(3, 5), expand_ratios=(2,))


@needs_ssh
def test_a_profile_over_ssh(server: Server, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "ssh"  # a user's own settings of ssh, in another place
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {" ".join(server.options)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    device = Device("onnxruntime", host=str(server.host))
    table = profile_space(space, 10, device, folder=tmp_path / "profile", effort=TINY)
    assert table.errors.n == 4
    assert (table.estimate([space.smallest(), space.largest()]) > 0).all()
    assert Device.parse(device.spec) == device
    assert sorted(path.suffix for path in (server.home / ".cache/onceforall").iterdir()) == [".zip"]  # jobs are removed
    table.save(tmp_path / "table.json")
    assert type(table).load(tmp_path / "table.json", space, 10).device == device


@needs_ssh
def test_a_connection_that_breaks(server: Server, space: Space) -> None:
    waits: list[str] = []
    ssh = server.ssh(say=waits.append)
    meter = RemoteMeter(server.host, "onnxruntime", ssh=ssh)
    cutter = threading.Timer(1.0, server.cut)
    cutter.start()
    plans = [space.lower(space.smallest(), 10), space.lower(space.largest(), 10)]
    timings = meter.time(plans, rounds=2000, max_rounds=2000, limit=float("inf"))
    cutter.join()
    assert len(waits) >= 1
    assert [timing.repeats > 0 for timing in timings] == [True, True]


@pytest.mark.parametrize(("runtime", "opset"), [("openvino", HARD_SWISH), ("onnxruntime", OPSET)])
def test_other_machines_get_the_graph_that_the_runtime_makes_here(space: Space, runtime: str, opset: int) -> None:
    model = onnx.load_from_string(RemoteModel.stand_in(space.lower(space.smallest(), 10), runtime).content)
    assert model.opset_import[0].version == opset


@needs_ssh
def test_a_job_that_runs_is_taken_up(server: Server, space: Space) -> None:
    meter = RemoteMeter(server.host, "onnxruntime", ssh=server.ssh())
    folder = server.home / "job"
    folder.mkdir()
    model = RemoteModel.stand_in(space.lower(space.smallest(), 10), "onnxruntime")
    from onceforall.latency.remote.bundle import job_zip

    job = job_zip([model], threads=1, batch=1, measure={"rounds": 150, "max_rounds": 150})
    (folder / "job.zip").write_bytes(job)
    meter._ask("start", "job")
    first = (folder / "pid").read_text()
    meter._ask("start", "job")
    assert (folder / "pid").read_text() == first
    while (answer := meter._ask("result", "job", "5")).get("running"):
        pass
    assert len(answer["timings"]) == 1
    meter._ask("forget", "job")
    assert not folder.exists()


@needs_ssh
def test_what_the_host_lacks(server: Server, space: Space) -> None:
    with pytest.raises(DeviceError, match="use at most"):
        RemoteMeter(server.host, "onnxruntime", threads=4096, ssh=server.ssh())
    with pytest.raises(DeviceError, match="cannot be measured over ssh: choose one of onnxruntime"):
        RemoteMeter(server.host, "pytorch", ssh=server.ssh())
    meter = RemoteMeter(server.host, "onnxruntime", ssh=server.ssh())
    with pytest.raises(DeviceError, match=r"^ssh://127.0.0.1:\d+.*: "):
        meter.time_models([RemoteModel(b"no model", (3, 8, 8))], rounds=2, max_rounds=2)
    with pytest.raises(DeviceError, match="cannot be reached"):
        Ssh(Host("127.0.0.1", port=1), options=server.options)("true")


@pytest.mark.parametrize(
    "answer",
    [
        "", "hello", "[1]", "{}", '{"version": 1}', '{"version": "1", "baseline_ms": NaN, "cpus": 1}', "x" * 10**6, "\033]0;",
        "[" * 100_000, '{"error": "\\u001b]0;owned\\u0007"}', '{"version": "1", "baseline_ms": 1' + 400 * "0" + "}",
    ],
)  # fmt: skip
@needs_ssh
def test_a_host_that_talks_nonsense(server: Server, tmp_path: Path, answer: str) -> None:
    (tmp_path / "answer").write_text(answer)
    liar = tmp_path / "python"
    liar.write_text(f"#!/bin/sh\ncat {tmp_path / 'answer'}\n")
    liar.chmod(0o755)
    with pytest.raises(DeviceError) as caught:
        RemoteMeter(Host("127.0.0.1", port=server.host.port, python=str(liar)), "onnxruntime", ssh=server.ssh())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@needs_ssh
def test_a_host_that_does_not_stop_talking(server: Server) -> None:
    with pytest.raises(DeviceError, match="it sent 10 MB or more, which is no answer"):
        server.ssh()("yes")
    with pytest.raises(DeviceError, match="cannot be reached: no answer in 0 s"):
        server.ssh()("sleep", "60", limit_s=0.3)


@needs_ssh
def test_an_upload_that_breaks_off(server: Server) -> None:
    """A connection that ends looks to the host like the end of the file."""
    meter = RemoteMeter(server.host, "onnxruntime", ssh=server.ssh())
    with pytest.raises(DeviceError, match="cat failed there"):
        server.ssh().shell(f"cat > cut.tmp && {has_size('cut.tmp', b'whole')} && mv cut.tmp cut", b"who")
    assert not (server.home / "cut").exists()
    agent = server.home / meter._agent
    whole = agent.read_bytes()
    agent.write_bytes(whole[:100])
    RemoteMeter(server.host, "onnxruntime", ssh=server.ssh())
    assert agent.read_bytes() == whole


@needs_ssh
def test_a_connection_that_does_not_come_back_leaves_the_result(server: Server, space: Space, tmp_path: Path) -> None:
    """The same command started anew fetches it."""
    lost = tmp_path / "ssh"
    lost.write_text(f'#!/bin/sh\ntest -e {tmp_path}/gone && exit 255\nexec {shutil.which("ssh")} "$@"\n')
    lost.chmod(0o755)
    plans = [space.lower(space.largest(), 10)]
    arguments = {"rounds": 600, "max_rounds": 600, "limit": float("inf")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        meter = RemoteMeter(server.host, "onnxruntime", ssh=server.ssh(patience_s=1.0))
        place = server.home / ".cache/onceforall"

        def cut_when_it_measures() -> None:
            while not list(place.glob("job-*/pid")):
                time.sleep(0.05)
            (tmp_path / "gone").touch()
            server.cut()

        cutter = threading.Thread(target=cut_when_it_measures)
        cutter.start()
        with pytest.raises(DeviceError, match="the connection broke and did not come back in 1 s"):
            meter.time(plans, **arguments)
        cutter.join()
        (pid,) = place.glob("job-*/pid")
        begun = pid.stat().st_mtime_ns
        (tmp_path / "gone").unlink()
        while not (pid.parent / "result.json").exists():
            assert pid.stat().st_mtime_ns == begun  # it goes on measuring
            time.sleep(0.05)
        assert len(meter.time(plans, **arguments)) == 1
    assert not pid.parent.exists()


def test_the_number_of_another_process(tmp_path: Path) -> None:
    """After a restart of the machine, a job's process number may be another's, which is neither waited for nor ended."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "pid").write_text(str(other.pid))
        assert not _alive(tmp_path) or not Path("/proc/self/cmdline").exists()
        other.kill()


def test_the_agent_needs_python_and_numpy_only() -> None:
    for runtime in ("onnxruntime", "openvino"):
        archive = zipfile.ZipFile(io.BytesIO(agent_zip(runtime)))
        names = archive.namelist()
        assert {name for name in names if name.endswith(".py")} == set(names)
        for source in names:
            for node in ast.walk(ast.parse(archive.read(source))):
                roots = [a.name.split(".")[0] for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    roots = [str(node.module).split(".")[0]]
                assert set(roots) <= {*sys.stdlib_module_names, "numpy", *(["onceforall"] if source == "__main__.py" else [])}
        there: dict[str, object] = {}
        exec(archive.read("onceforall/there.py"), there)
        assert there["open_model"].__name__ == RUNTIMES[runtime].there[-1].__name__
        assert agent_zip(runtime) == agent_zip(runtime)


@pytest.mark.parametrize(
    "text", ["ssh://board", "ssh://pi@board:22", "ssh://pi@192.168.0.7?python=venv/bin/python", "ssh://[::1]:2222"]
)
def test_hosts(text: str) -> None:
    assert str(Host.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["board", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://a@-b", "ssh://b:0", "ssh://b:70000", "ssh://b?python=a;b",
             "ssh://b\n", "ssh://b/c", "http://b"]
)  # fmt: skip
def test_no_hosts(text: str) -> None:
    with pytest.raises(DeviceError, match="host"):
        Host.parse(text)
