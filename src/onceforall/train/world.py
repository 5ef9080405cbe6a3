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

PATIENCE_S = 600.0  # for the other processes to come
LONGEST = timedelta(days=1)  # that an exchange waits, as while the first process decodes; one that dies closes its connections


@dataclass(frozen=True)
class World:
    """This process among those that train together. An exchange raises `TrainingError` when another of them has ended.

    Args:
        rank: of this process, from 0.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: str = "cpu") -> "World":
        """The processes that torchrun started; this one alone where it did not.

        Raises:
            TrainingError: torchrun's variables are there but the processes do not find each other.
        """
        given = os.environ.get("WORLD_SIZE", "1")
        if not given.isdecimal():
            raise TrainingError(f"WORLD_SIZE is {given!r}: torchrun sets it to a number of processes; without torchrun, unset it")
        size = int(given)
        if size < 2:
            return cls()
        if not dist.is_initialized():
            # Optimisers load this. Loaded later, its functions hold the group as a default argument, so that `leave` does not end
            # gloo's threads, and one of them may abort the process at its exit (torch 2.15).
            import torch.distributed.nn  # noqa: F401

            try:
                store, rank, size = next(rendezvous("env://"))
                store = PrefixStore(_meeting(store, rank, size), store)
                backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"  # flags and objects never touch the GPU
                dist.init_process_group(backend, timeout=LONGEST, store=store, rank=rank, world_size=size)
            except (RuntimeError, ValueError) as error:
                raise TrainingError(f"{size} processes did not find each other: {error}".splitlines()[0]) from None
        return cls(dist.get_rank(), dist.get_world_size())

    @classmethod
    @contextmanager
    def joined(cls, device: str = "cpu") -> Iterator["World"]:
        """`join` for the length of a with statement, and `leave` at its end."""
        world = cls.join(device)
        try:
            yield world
        finally:
            world.leave()

    def leave(self) -> None:
        """Part from the other processes, after the last exchange."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def mean_gradients(self, parameters: Iterable[nn.Parameter], *, same: bool = False) -> None:
        """Replace every gradient by the mean over the processes, in one exchange.

        A parameter that got a gradient in some process only counts as zero in the others.

        Args:
            parameters: in the same order everywhere.
            same: the same ones have gradients in all processes, which spares asking.
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
        """Until all processes are here."""
        if self.size > 1:
            add_up(torch.zeros(1))


def _meeting(store: Store, rank: int, size: int) -> str:
    """A name that only the processes that are here now know.

    When torchrun restarts all processes after one was killed, its store still holds the addresses of the earlier ones (torch
    2.15), and a process that reads one too early calls the dead. Nothing is stored under this name yet.

    Raises:
        RuntimeError: some have not come.
    """
    store.set(f"here/{rank}", uuid.uuid4().hex)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        meeting = "/".join(store.get(f"here/{other}").decode() for other in range(size))
        store.set(f"{meeting}/{rank}", "")  # the dead cannot have seen a meeting that has this process in it
        if store.check([f"{meeting}/{other}" for other in range(size)]):
            return meeting
        time.sleep(0.05)
    raise RuntimeError(f"not all of them came within {PATIENCE_S:g} s")
