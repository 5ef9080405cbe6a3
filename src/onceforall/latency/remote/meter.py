"""`RemoteMeter`: times networks on another machine."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from ...backends import RUNTIMES
from ...errors import DeviceError
from ...plan import Plan
from ..device import Host
from ..measure import Timing
from .bundle import RemoteModel, agent_zip, digest_of_bytes, job_zip
from .ssh import Ssh, printable_text

FOLDER = PurePosixPath(".cache/onceforall")  # in the remote home folder
WAIT_S = 20.0  # per request for the result
LIMIT_S = 120.0  # for any request


class RemoteMeter:
    """Copies the agent to a host and times networks there. A lost connection does no harm: requests are retried.

    Args:
        runtime: name in `RUNTIMES` of a runtime that can be loaded remotely.
        threads: number of threads per network.
        ssh: connection to use instead of the default one.
        say: called with a message when a lost connection is retried.

    Attributes:
        version: version of the runtime there.
        baseline_ms: time of the reference kernel there.

    Raises:
        DeviceError: the host cannot be reached, or lacks Python, numpy, the runtime or enough processors.
    """

    def __init__(
        self,
        host: Host,
        runtime: str,
        *,
        threads: int = 1,
        batch: int = 1,
        ssh: Ssh | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        if not RUNTIMES[runtime].there:
            able = ", ".join(name for name, other in RUNTIMES.items() if other.there)
            raise DeviceError(f"{runtime} cannot be measured over ssh: choose one of {able}")
        self.host, self.runtime, self.threads, self.batch = host, runtime, threads, batch
        self._ssh = ssh or Ssh(host, say=say)
        agent = agent_zip(runtime)
        self._agent = str(FOLDER / f"agent-{digest_of_bytes(agent)}.zip")
        self._put(self._agent, agent)
        about = self._ask("about")
        self.version, self.processor = _text(about, "version"), _text(about, "processor")
        self.baseline_ms = _number(about, "baseline_ms")
        cpus = int(_number(about, "cpus"))
        if threads > cpus:
            raise DeviceError(f"threads is {threads}, {host} has {cpus} processors for this: use at most {cpus}")

    def time(self, plans: Sequence[Plan], **arguments: Any) -> list[Timing]:
        """Time networks with random weights in turns; the arguments are those of `time_calls`.

        Raises:
            DeviceError: the host is too noisy, lost, or cannot run a network.
            MissingExtraError: the package onnx is not installed here.
        """
        return self.time_models([RemoteModel.stand_in(plan, self.runtime) for plan in plans], **arguments)

    def time_models(self, models: Sequence[RemoteModel], **arguments: Any) -> list[Timing]:
        """Time ONNX models.

        If this process was killed, calling it again with the same models resumes the running measurement.

        Raises:
            DeviceError: the host is too noisy, lost, or cannot run a network.
        """
        job = job_zip(models, threads=self.threads, batch=self.batch, measure=arguments)
        folder = str(FOLDER / f"job-{digest_of_bytes(job)}")
        self._put(f"{folder}/job.zip", job)
        self._ask("start", folder)
        try:
            while (answer := self._ask("result", folder, str(WAIT_S))).get("running") is True:
                pass
            timings = answer.get("timings")
            if not isinstance(timings, list) or len(timings) != len(models):
                raise DeviceError(f"{self.host}: the agent returned {str(answer)[:200]!r} for {len(models)} networks: try again")
            return [self._timing(timing) for timing in timings]
        finally:
            with suppress(DeviceError):  # if the connection did not come back, the result waits for the next try
                self._ask("forget", folder, patience_s=0)

    def _put(self, path: str, data: bytes) -> None:
        """Upload a file atomically, unless it exists: its name identifies its content.

        A broken connection looks like the end of the file to the receiver, so the size is checked before the file is renamed.
        """
        parent, temporary = PurePosixPath(path).parent, f"{path}.{os.getpid()}.tmp"
        exists = self._ssh.shell(f"mkdir -p {parent} && if test -f {path} && {has_size(path, data)}; then echo yes; fi")
        if exists.strip() != "yes":
            self._ssh.shell(f"cat > {temporary} && {has_size(temporary, data)} && mv {temporary} {path}", data)

    def _ask(self, *words: str, patience_s: float | None = None) -> dict[str, Any]:
        """Send a command to the agent and return its answer; a `DeviceError` if it reports an error, or cannot be understood."""
        python = self.host.python.removeprefix("~/")
        output = self._ssh(python, self._agent, *words, limit_s=LIMIT_S, patience_s=patience_s)
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise DeviceError(f"{self.host}: the agent returned {output[:200]!r}, not JSON: check that {python} is Python there")
        if "error" in answer:
            raise DeviceError(f"{self.host}: {printable_text(str(answer['error'])[:300])}")
        return answer

    def _timing(self, values: object) -> Timing:
        if not isinstance(values, dict):
            raise DeviceError(f"{self.host}: the agent returned {str(values)[:100]!r} as a time: try again")
        ms, low, high, repeats = (_number(values, key) for key in ("ms", "low", "high", "repeats"))
        timing = Timing(ms, low, high, int(repeats))
        if not 0 < timing.low <= timing.ms <= timing.high:
            raise DeviceError(f"{self.host}: the agent returned the impossible time {timing}: try again")
        return timing


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise DeviceError(f"the agent returned {repr(value)[:50]} for {key}: try again")
    return float(value)


def _text(values: Mapping[str, Any], key: str) -> str:
    return printable_text(str(values.get(key))[:100])


def has_size(path: str, data: bytes) -> str:
    """A shell condition: whether the file is as long as the data."""
    return f"test $(wc -c < {path}) -eq {len(data)}"
