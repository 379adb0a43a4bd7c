"""Run a recipe in a process of its own, with the slow imports already done: output to a file, the failure as one line."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PRELOADED = ("torch", "transformers", "datasets", "trl", "peft", "accelerate")
_context = multiprocessing.get_context("forkserver")


def command_module(name: str) -> ModuleType:
    """The module that `python -m NAME` runs: a file, or the __main__ of a package."""
    found = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(found, "__path__") else found


def preload_training_packages() -> None:
    """Have the server import PRELOADED once, so that each training stage starts in a fraction of the 5 s that they take."""
    _context.set_forkserver_preload(list(PRELOADED))


def run_recipe(module: str, arguments: list[str], log: Path, watch: Callable[[], None]) -> str | None:
    """Run `module.main(arguments)` in a fresh process; returns None if it went well, else what went wrong in one line.

    Its stdout and stderr go to the end of `log`. `watch` is called a few times a second. Ctrl-C reaches the stage too (same process
    group); this waits for it to end before KeyboardInterrupt goes on.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    receiving, sending = _context.Pipe(duplex=False)
    process = _context.Process(target=_child, args=(module, arguments, str(log), sending), name=module)
    process.start()
    sending.close()
    try:
        while process.is_alive():
            process.join(0.25)
            watch()
    except BaseException:
        _end(process)
        raise
    try:
        failure = receiving.recv()
    except EOFError:  # it ended without a word: well, or killed
        failure = None
    if failure is None and process.exitcode != 0:
        failure = _died(process.exitcode, log)
    return failure


def run_launched(
    module: str,
    arguments: list[str],
    log: Path,
    watch: Callable[[], None],
    *,
    accelerate_config: str,
    processes: int | None = None,
) -> str | None:
    """As `run_recipe`, on the processes that an accelerate config names (or on so many of them)."""
    count = ["--num_processes", str(processes)] if processes else []
    launcher = ["accelerate.commands.launch", "--config_file", accelerate_config, *count]
    line = [*launcher, "-m", module, *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as output:
        print(f"$ python -m {' '.join(line)}", file=output, flush=True)
        began = output.tell()
        process = subprocess.Popen([sys.executable, "-m", *line], stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.25)
                watch()
        except BaseException:
            process.send_signal(signal.SIGINT)  # the launcher ends its processes
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            raise
    if process.returncode == 0:
        return None
    said = log.read_bytes()[began:].decode("utf-8", "replace").split("\n")
    errors = [text.removeprefix("error: ") for text in said if text.startswith("error: ")]
    return errors[0] if errors else _died(process.returncode, log)


def _end(process: multiprocessing.Process) -> None:
    """End a stage: first as Ctrl-C does, so that it leaves cleanly; after 10 s for good."""
    if process.is_alive() and process.pid:
        os.kill(process.pid, signal.SIGINT)
        process.join(10)
    if process.is_alive():
        process.kill()
        process.join()


def _died(code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return "it was killed (signal 9); if nobody did, the machine ran out of memory"
    last = deque((line.strip() for line in log.open(encoding="utf-8", errors="replace") if line.strip()), maxlen=1)
    return f"it ended with status {code}: {last[0] if last else 'no output'}"


def _end_with_parent() -> None:
    """Leave as by Ctrl-C when the process that asked for this stage is gone, killed say: nobody would hear of the result."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGINT)


def _child(module: str, arguments: list[str], log: str, sending) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and hand that on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = [module, *arguments]
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    try:
        command_module(module).main(arguments)
    except KeyboardInterrupt:
        sending.send("stopped by Ctrl-C")
        sys.exit(130)
    except (ValueError, OSError) as error:  # a person's mistake or the machine's limits: one line
        traceback.print_exc()
        sending.send(" ".join(str(error).split()))
        sys.exit(1)
    except Exception as error:  # a defect of ours: the traceback is in the log, the line says where
        traceback.print_exc()
        sending.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        sys.exit(1)
    except SystemExit as error:  # argparse: its message is the log's last line
        sending.close()
        sys.exit(error.code)
