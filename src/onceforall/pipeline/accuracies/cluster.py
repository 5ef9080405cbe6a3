"""Tasks distributed over a Ray cluster; Ray is an extra."""

import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TypeVar

from ...common.processors import processors
from ...errors import DeviceError, MissingExtraError, OnceForAllError

PATIENCE_S = 10.0  # time for the head to answer
RETRIES = 5  # retries of a task whose worker was killed

Task = TypeVar("Task")
Result = TypeVar("Result")


def on_cluster(
    address: str, gpus: int, function: Callable[[Task], Result], tasks_for: Callable[[int], Sequence[Task]]
) -> Iterator[Result]:
    """Results of a function from a running Ray cluster, or with "local" from one started on this machine, in order of completion.

    A task whose worker was killed goes to another worker.

    Args:
        gpus: GPUs per worker, 0 or 1; without one, a worker has one processor core.
        tasks_for: returns the tasks for a number of workers.

    Raises:
        MissingExtraError: Ray is not installed.
        DeviceError: no cluster answers there, it has no suitable workers, a task's workers were killed `RETRIES` times, or the
            function failed.
        OnceForAllError: raised by the function.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report usage to its makers
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # for a cluster started here; with 15, the default, workers make no progress on a busy machine
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError("ray", "cluster") from None
    _require_answer(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    local = {"num_cpus": processors(), "include_dashboard": False}
    try:
        ray.init(address=address, **quiet, **(local if address == "local" else {}))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"--ray {address}: no Ray cluster: give host:port of its head, auto, or local ({text})") from None
    try:
        workers = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        if not workers:
            raise DeviceError(f"--ray {address}: the cluster has no {'GPU: use --device cpu' if gpus else 'CPU: start a worker'}")
        with redirect_stdout(sys.stderr):  # Ray prints messages on workers that died
            remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(function)
            pending = [remote.remote(task) for task in tasks_for(workers)]
            while pending:
                (ready,), pending = ray.wait(pending)
                yield ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OnceForAllError):
            raise error.cause from None
        raise DeviceError(f"a worker of the Ray cluster failed: {error.cause!r}") from None
    except ray.exceptions.RayError as error:
        raise DeviceError(f"the Ray cluster lost a worker {RETRIES} times or is gone: {str(error).splitlines()[0]}") from None
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise a `DeviceError` soon if nothing listens at the address: Ray itself would try for seven minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise DeviceError(f"--ray {address}: give host:port of a cluster's head, auto, or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except OSError as error:
        advice = "start a cluster with ray start, or use local"
        raise DeviceError(f"--ray {address}: nothing answers there ({error}): {advice}") from None
