"""Several processes of this machine that meet over gloo, each forked from one that has done the slow imports."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

from recipes.run.process import PRELOADED

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(PRELOADED))


def together(function: Callable, *args: Any, processes: int = 2, timeout_s: float = 120) -> None:
    """function(*args) in each of so many processes, as a launcher would start them. AssertionError if one of them fails.

    function: one that a module has, since it goes to the processes by its name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [context.Process(target=_join, args=(rank, processes, port, function, args)) for rank in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout_s)
        if process.exitcode != 0:  # the others may wait for it for ever
            for other in started:
                other.kill()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * processes


def _join(rank: int, processes: int, port: int, function: Callable, args: tuple) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    import torch

    torch.set_num_threads(1)
    function(*args)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
