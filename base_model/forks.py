"""Independent work without gradients over the cores: one process of one thread each.

A process of one thread a core does more than one process of as many threads (generation of a model of 1 M parameters on two cores: 425
answers/s against 282 to 327), and where another program is running it slows down by that program's share, while threads that wait for
each other slow down by far more (to 12 to 110 answers/s). What each piece of work gives does not depend on how many processes there are.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Item, Result = TypeVar("Item"), TypeVar("Result")
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl

_work: Callable[[Any], Any] | None = None  # what the processes inherit: a fork needs no pickle of models and closures


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(pieces: int, device: torch.device) -> int:
    """How many processes share out so many pieces of work: one a core at most, and never more than a person's OMP_NUM_THREADS allows.

    One on an accelerator, outside Linux (a fork of a process with threads is not safe everywhere), in a process that is itself one of
    those, and where a launcher runs several processes already."""
    is_alone = os.environ.get("WORLD_SIZE", "1") == "1" and _work is None
    if device.type != "cpu" or sys.platform != "linux" or not is_alone:
        return 1
    return max(1, min(pieces, cores(), int(os.environ.get("OMP_NUM_THREADS") or cores())))


def share_out(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """work(item) of each item, in their order, by so many processes. It returns tensors, or tuples of them and None.

    Raises what `work` raised, or OSError if a process was killed."""
    global _work
    if processes == 1:
        yield from map(work, items)
        return
    import torch

    _work = work
    fork = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(processes, mp_context=fork, initializer=_begin, initargs=(os.getpid(),)) as pool:
            for made in pool.map(_do, items):
                yield _each(torch.from_numpy, made)
    except BrokenProcessPool:
        raise OSError(
            "a process that shared the work was killed; if nobody did, the machine ran out of memory"
        ) from None
    finally:
        _work = None


def _begin(parent: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear, and it ends this process
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
    torch.set_num_threads(1)


def _do(item: Any) -> Any:
    """As numpy arrays: tensors would go through shared memory, of which a container may have little."""
    import torch

    return _each(torch.Tensor.numpy, _work(item))


def _each(change: Callable[[Any], Any], made: Any) -> Any:
    if isinstance(made, tuple):
        return tuple(_each(change, part) for part in made)
    return None if made is None else change(made)
