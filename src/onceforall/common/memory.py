"""Settings of memory management: freed memory and garbage collection."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for reuse (Linux only). Return whether that worked.

    Activations are freed layer by layer. glibc returns large ones to the system at once, which then has to clear new pages for
    the next layer: that took 45 % of the time of evaluating networks (docs/results/export.md). The price: this process never
    shrinks. So it is for programs that do little else, such as `ofa train`.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(TRIM_THRESHOLD, -1)) and bool(mallopt(MMAP_MAX, 0))  # never; nothing outside the heap


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage while modules are imported.

    The hundreds of thousands of objects that torch creates all stay alive, and scanning them repeatedly took 0.4 of the 2.6
    seconds of processor time of `ofa status` (torch 2.14).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
