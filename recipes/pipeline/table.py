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


def print_plan(rows: list[tuple[Any, float | None, float | None]]) -> None:
    """What a run would do: (decision, seconds, GiB) a stage."""
    table = Table("stage", "runs", "why", "about", "memory", title="what would run")
    for decision, seconds, gib in rows:
        cost = (minutes(seconds), f"{gib:.1f} GiB" if gib else "?") if decision.runs else ("", "")
        table.add_row(decision.stage.name, "yes" if decision.runs else "no", decision.why, *cost)
    total = sum(seconds or 0 for decision, seconds, _ in rows if decision.runs)
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

    def __init__(self, stages: list[Any], expected_s: dict[str, float | None]) -> None:
        self.stages, self.expected_s = stages, expected_s
        self.state = {stage.name: "waiting" for stage in stages}
        self.detail = {stage.name: "" for stage in stages}
        self.seconds: dict[str, float] = {}
        self.current: Any = None
        self.began_s = 0.0
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
        self.current, self.began_s = (decision.stage, time.monotonic()) if decision.runs else (None, 0.0)
        if not self.live and "not chosen" not in decision.why:
            self.console.print(f"{name}: {self.state[name]} ({self.detail[name]})", highlight=False, soft_wrap=True)
        self._draw()

    def watch(self) -> None:
        """Read the running stage's progress and draw."""
        if self.current and self.live:
            self.seconds[self.current.name] = time.monotonic() - self.began_s
            self.detail[self.current.name] = self._progress()
            self._draw()

    def _progress(self) -> str:
        try:
            progress = json.loads((self.current.folder / ".progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self.detail[self.current.name]
        done, total = progress["done"], progress["total"]
        if not done or done >= total:
            return "evaluating" if done else ""
        left_s = progress["elapsed_s"] / done * (total - done)
        return f"step {done} of {total}, {minutes(left_s)} left of the training"

    def finished(self, stage: Any) -> None:
        """A stage ended well."""
        self.seconds[stage.name] = time.monotonic() - self.began_s
        self.state[stage.name], self.detail[stage.name] = "done", headline(stage.folder)
        self.current = None
        if not self.live:
            took = minutes(self.seconds[stage.name])
            self.console.print(
                f"{stage.name}: done in {took}  {self.detail[stage.name]}", highlight=False, soft_wrap=True
            )
        self._draw()

    def failed(self, stage: Any, why: str) -> None:
        """A stage ended badly."""
        self.state[stage.name], self.detail[stage.name], self.current = "failed", why, None
        self._draw()

    def _left_s(self) -> float:
        return sum(
            max((self.expected_s[stage.name] or 0) - self.seconds.get(stage.name, 0), 0)
            for stage in self.stages
            if self.state[stage.name] in ("waiting", "running")
        )

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
