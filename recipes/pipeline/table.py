"""The pipeline in the terminal: a live table of stages (rich), or plain lines where the output is no terminal."""

import json
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from eval.words import number
from recipes.run.record import read_manifest

HEADLINES = 4  # metrics shown beside a finished stage


def minutes(seconds: float | None) -> str:
    """Seconds as "1:05", or "?" where unknown."""
    return "?" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def wall_s(stages: list[Any], seconds: dict[str, float], jobs: int) -> float:
    """What stages of so many seconds each take side by side: the longest way through the graph, or all of it over `jobs`."""
    ways: dict[Any, float] = {}
    for stage in stages:  # parents come first
        ways[stage.folder] = seconds[stage.name] + max((ways.get(f, 0.0) for f in stage.parents.values()), default=0.0)
    return max(max(ways.values(), default=0.0), sum(seconds.values()) / jobs)


def print_plan(rows: list[tuple[Any, float | None, float | None]], jobs: int) -> None:
    """What a run would do: (decision, seconds, GiB) a stage."""
    table = Table("stage", "runs", "why", "about", "memory", title="what would run")
    for decision, seconds, gib in rows:
        cost = (minutes(seconds), f"{gib:.1f} GiB" if gib else "?") if decision.runs else ("", "")
        table.add_row(decision.stage.name, "yes" if decision.runs else "no", decision.why, *cost)
    seconds = {decision.stage.name: (seconds or 0.0) * decision.runs for decision, seconds, _ in rows}
    total = wall_s([decision.stage for decision, *_ in rows], seconds, jobs)
    console = Console()
    console.print(table)
    console.print(
        f"{sum(d.runs for d, *_ in rows)} of {len(rows)} stages would run, about {minutes(total)} minutes in all"
    )


def headline(folder: Any) -> str:
    """A few of a finished stage's measured numbers in a line, with their intervals."""
    manifest = read_manifest(folder) or {}
    parts = []
    for name, m in (manifest.get("evaluation") or {}).items():
        if m.get("headline"):
            parts.append(
                f"{name} {number(m['value'])} [{number(m['low'])}, {number(m['high'])}]"
                if m.get("low") is not None
                else f"{name} {number(m['value'])}"
            )
    failed = [check["name"] for check in manifest.get("checks", []) if not check["passed"]]
    return "; ".join(parts[:HEADLINES] + ([f"FAILED: {', '.join(failed)}"] if failed else []))


class StageTable:
    """A row per stage: state, time, what was measured. Use as a context manager; call `watch` now and then."""

    def __init__(self, stages: list[Any], expected_s: dict[str, float | None], jobs: int) -> None:
        self.stages, self.expected_s, self.jobs = stages, expected_s, jobs
        self.state = {stage.name: "waiting" for stage in stages}
        self.detail = {stage.name: "" for stage in stages}
        self.seconds: dict[str, float] = {}
        self.running: dict[str, tuple[Any, float]] = {}  # name -> the stage, and when it began
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> "StageTable":
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self._draw()
            self.live.__exit__(*error)

    def decided(self, decision: Any) -> None:
        """A stage begins, or is passed over."""
        name = decision.stage.name
        self.state[name] = "running" if decision.runs else "kept"
        self.detail[name] = (
            decision.why if decision.runs else f"{decision.why}; {headline(decision.stage.folder)}".rstrip("; ")
        )
        if decision.runs:
            self.running[name] = decision.stage, time.monotonic()
        if "not chosen" not in decision.why:
            self._say(f"{name}: {self.state[name]} ({self.detail[name]})")

    def watch(self) -> None:
        """Read the running stages' progress and draw."""
        if self.live:
            for stage, began_s in self.running.values():
                self.seconds[stage.name] = time.monotonic() - began_s
                self.detail[stage.name] = self._progress(stage)
            self._draw()

    def _progress(self, stage: Any) -> str:
        try:
            progress = json.loads((stage.folder / ".progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self.detail[stage.name]
        done, total = progress["done"], progress["total"]
        if not done or done >= total:
            return "evaluating" if done else ""
        left_s = progress["elapsed_s"] / done * (total - done)
        return f"step {done} of {total}, {minutes(left_s)} left of the training"

    def finished(self, stage: Any) -> None:
        """A stage ended well."""
        _, began_s = self.running.pop(stage.name)
        self.seconds[stage.name] = time.monotonic() - began_s
        self.state[stage.name], self.detail[stage.name] = "done", headline(stage.folder)
        self._say(f"{stage.name}: done in {minutes(self.seconds[stage.name])}  {self.detail[stage.name]}")

    def failed(self, stage: Any, why: str) -> None:
        """A stage ended badly."""
        del self.running[stage.name]
        self.state[stage.name], self.detail[stage.name] = "failed", why
        others = f"; waiting for {', '.join(self.running)}" if self.running else ""
        self._say(f"{stage.name}: failed ({why}){others}")

    def _say(self, line: str) -> None:
        if not self.live:
            self.console.print(line, highlight=False, soft_wrap=True)
        self._draw()

    def _left_s(self) -> float:
        left = {
            name: max((self.expected_s[name] or 0) - self.seconds.get(name, 0), 0) * (state in ("waiting", "running"))
            for name, state in self.state.items()
        }
        return wall_s(self.stages, left, self.jobs)

    def _draw(self) -> None:
        if not self.live:
            return
        colour = {"waiting": "dim", "running": "bold cyan", "kept": "green", "done": "green", "failed": "bold red"}
        table = Table(
            "stage", "state", "time", "of about", "measured", caption=f"about {minutes(self._left_s())} minutes left"
        )
        for stage in self.stages:
            state = self.state[stage.name]
            spent = minutes(self.seconds[stage.name]) if stage.name in self.seconds else ""
            table.add_row(
                stage.name,
                f"[{colour[state]}]{state}[/]",
                spent,
                minutes(self.expected_s[stage.name]),
                escape(self.detail[stage.name]),
            )
        self.live.update(table, refresh=True)
