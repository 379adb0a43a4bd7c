"""Run a recipe in a process of its own, with the slow imports already done: output to a file, the failure as one line."""

import ctypes
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from recipes.run.cli import FAILURE_FILE, one_line

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PRELOADED = ("torch", "transformers", "datasets", "trl", "peft", "accelerate")
POLL_S = 0.2  # between two looks at a process
_context = multiprocessing.get_context("forkserver")


class Failure(str):
    """What went wrong, in one line. kind: the name of the error's class, where one was raised."""

    kind: str

    def __new__(cls, message: str, kind: str = "") -> "Failure":
        failure = super().__new__(cls, " ".join(message.split()))
        failure.kind = kind
        return failure


def command_module(name: str) -> ModuleType:
    """The module that `python -m NAME` runs: a file, or the __main__ of a package."""
    found = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(found, "__path__") else found


def preload_training_packages() -> None:
    """Have the server import PRELOADED once, so that each training stage starts in a fraction of the 5 s that they take."""
    _context.set_forkserver_preload(list(PRELOADED))


def run_recipe(module: str, arguments: list[str], log: Path, watch: Callable[[], None]) -> Failure | None:
    """Run `module.main(arguments)` in a fresh process; returns None if it went well, else what went wrong in one line.

    Its stdout and stderr go to the end of `log`. `watch` is called a few times a second. Ctrl-C reaches the stage too (same process
    group); this waits for it to end before KeyboardInterrupt goes on.
    """
    return wait_for(RecipeProcess(module, arguments, log), watch)


def wait_for(process: "RecipeProcess | LaunchedProcess", watch: Callable[[], None] = lambda: None) -> Failure | None:
    """Wait until it ends; returns its failure. It is ended too where anything is raised meanwhile."""
    try:
        while process.is_running():
            time.sleep(POLL_S)
            watch()
    except BaseException:
        end_all([process])
        raise
    return process.failure()


def end_all(processes: Sequence["RecipeProcess | LaunchedProcess"]) -> None:
    """End stages: first as Ctrl-C does, so that they leave cleanly; after 10 s for good."""
    for process in processes:
        process.interrupt()
    deadline_s = time.monotonic() + 10
    while any(process.is_running() for process in processes) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    for process in processes:
        process.kill()


class RecipeProcess:
    """`module.main(arguments)` in a fresh process, its stdout and stderr at the end of `log`. threads: of the CPU, None: its own choice."""

    def __init__(self, module: str, arguments: list[str], log: Path, *, threads: int | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.receiving, sending = _context.Pipe(duplex=False)
        asked = (module, arguments, str(log), sending, threads)
        self.process = _context.Process(target=_child, args=asked, name=module)
        self.process.start()
        sending.close()

    def is_running(self) -> bool:
        return self.process.is_alive()

    def failure(self) -> Failure | None:
        """None if it ended well, else what went wrong in one line. Only of a process that has ended."""
        try:
            failure = self.receiving.recv()
        except EOFError:  # it ended without a word: well, or killed
            failure = None
        if failure is None and self.process.exitcode != 0:
            failure = _died(self.process.exitcode, self.log)
        return failure

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


class LaunchedProcess:
    """As `RecipeProcess`, on the processes that an accelerate config names (or on so many of them)."""

    def __init__(
        self, module: str, arguments: list[str], log: Path, *, accelerate_config: str, processes: int | None = None
    ) -> None:
        count = ["--num_processes", str(processes)] if processes else []
        launcher = ["accelerate.commands.launch", "--config_file", accelerate_config, *count]
        line = [*launcher, "-m", module, *arguments]
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with open(log, "a", encoding="utf-8") as output:
            print(f"$ python -m {' '.join(line)}", file=output, flush=True)
            self.reason = log.with_suffix(".failure.json")  # where the stage's command says why it fails
            self.reason.unlink(missing_ok=True)
            environment = {**os.environ, FAILURE_FILE: str(self.reason)}
            self.process = subprocess.Popen(
                [sys.executable, "-m", *line],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_end_with_starter if sys.platform == "linux" else None,
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def failure(self) -> Failure | None:
        """None if it ended well, else what went wrong in one line. Only of a process that has ended."""
        if self.process.returncode == 0:
            return None
        if self.reason.is_file():
            return Failure(*json.loads(self.reason.read_text(encoding="utf-8")))
        return _died(self.process.returncode, self.log)

    def interrupt(self) -> None:
        """As Ctrl-C does: the launcher ends its processes."""
        if self.is_running():
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _died(code: int, log: Path) -> Failure:
    if code == -signal.SIGKILL:
        return Failure("it was killed (signal 9); if nobody did, the machine ran out of memory")
    last = deque((line.strip() for line in log.open(encoding="utf-8", errors="replace") if line.strip()), maxlen=1)
    return Failure(f"it ended with status {code}: {last[0] if last else 'no output'}")


def _end_with_parent() -> None:
    """Leave as by Ctrl-C when the process that asked for this stage is gone, killed say: nobody would hear of the result."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGINT)


def _end_with_starter() -> None:
    """In a launcher, before it starts: it gets SIGTERM, and ends its processes, when the process that started it is gone, killed say."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _child(module: str, arguments: list[str], log: str, sending, threads: int | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and hand that on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = [module, *arguments]
    if threads is not None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        else:
            os.environ["OMP_NUM_THREADS"] = str(threads)
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    try:
        command_module(module).main(arguments)
    except KeyboardInterrupt:
        sending.send(Failure("stopped by Ctrl-C"))
        sys.exit(130)
    except Exception as error:  # the traceback is in the log
        traceback.print_exc()
        kind = type(error).__name__
        # A person's mistake or the machine's limits need no more than one line; of a defect of ours it says what it is.
        message = one_line(error) or f"{kind}: {' '.join(str(error).split())[:300]}"
        sending.send(Failure(message, kind))
        sys.exit(1)
    except SystemExit as error:  # argparse: its message is the log's last line
        sending.close()
        sys.exit(error.code)
