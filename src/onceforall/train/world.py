"""`World`: the processes that train together, one or many (torchrun)."""

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ..errors import TrainingError
from ..nn.layers import add_up, exchanging

START_TIMEOUT_S = 600.0  # for the other processes to start
EXCHANGE_TIMEOUT = timedelta(days=1)  # e.g. while the first process decodes; a dead process closes its connections at once


@dataclass(frozen=True)
class World:
    """This process among those that train together. Every exchange raises `TrainingError` if another process has ended.

    Args:
        rank: index of this process, from 0.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: str = "cpu") -> "World":
        """Join the processes that torchrun started; without torchrun, the world is this process alone.

        Raises:
            TrainingError: torchrun's variables are set, but the processes do not find each other.
        """
        given = os.environ.get("WORLD_SIZE", "1")
        if not given.isdecimal():
            raise TrainingError(f"WORLD_SIZE is {given!r}: torchrun sets it to a number of processes; without torchrun, unset it")
        size = int(given)
        if size < 2:
            return cls()
        if not dist.is_initialized():
            # Optimizers import this module. If it were imported after the group is created, its functions would hold the group as
            # a default argument, so `leave` would not end gloo's threads, which may abort the process at exit (torch 2.15).
            import torch.distributed.nn  # noqa: F401

            try:
                store, rank, size = next(rendezvous("env://"))
                store = PrefixStore(_meeting(store, rank, size), store)
                backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"  # flags and objects stay on the CPU
                dist.init_process_group(backend, timeout=EXCHANGE_TIMEOUT, store=store, rank=rank, world_size=size)
            except (RuntimeError, ValueError) as error:
                raise TrainingError(f"{size} processes did not find each other: {error}".splitlines()[0]) from None
        return cls(dist.get_rank(), dist.get_world_size())

    @classmethod
    @contextmanager
    def joined(cls, device: str = "cpu") -> Iterator["World"]:
        """Context that calls `join` at the start and `leave` at the end."""
        world = cls.join(device)
        try:
            yield world
        finally:
            world.leave()

    def leave(self) -> None:
        """Disconnect from the other processes, after the last exchange."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def mean_gradients(self, parameters: Iterable[nn.Parameter], *, same: bool = False) -> None:
        """Replace every gradient with its mean over the processes, in one exchange.

        A gradient that exists only in some processes counts as zero in the others.

        Args:
            parameters: in the same order in all processes.
            same: all processes have gradients for the same parameters, so that they need not compare them first.
        """
        if self.size == 1:
            return
        known = list(parameters)
        used = [p.grad is not None for p in known]
        owners = [p for p, flag in zip(known, used if same else self.agree(used), strict=True) if flag]
        if not owners:
            return
        flat = add_up(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in owners]))
        flat /= self.size
        for p, part in zip(owners, torch.split(flat, [p.numel() for p in owners]), strict=True):
            p.grad = part.view_as(p) if p.grad is None else p.grad.copy_(part.view_as(p))

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        return values if self.size == 1 else add_up(values.clone()) / self.size

    def agree(self, flags: Sequence[bool]) -> list[bool]:
        """Whether any process has set each flag."""
        if self.size == 1:
            return list(flags)
        return [count > 0 for count in add_up(torch.tensor(flags, dtype=torch.int32)).tolist()]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with exchanging():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            add_up(torch.zeros(1))


def _meeting(store: Store, rank: int, size: int) -> str:
    """A store prefix that only the currently running processes know.

    When torchrun restarts all processes after one was killed, its store still holds the addresses of the old processes (torch
    2.15), and a process that reads too early would connect to a dead one. Nothing is stored under the new prefix yet.

    Raises:
        RuntimeError: some processes did not start.
    """
    store.set(f"here/{rank}", uuid.uuid4().hex)
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        meeting = "/".join(store.get(f"here/{other}").decode() for other in range(size))
        store.set(f"{meeting}/{rank}", "")  # a dead process cannot know a prefix that includes this process
        if store.check([f"{meeting}/{other}" for other in range(size)]):
            return meeting
        time.sleep(0.05)
    raise RuntimeError(f"not all of them started within {START_TIMEOUT_S:g} s")
