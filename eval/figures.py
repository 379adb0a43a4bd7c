"""Inline SVG for the report: intervals by model, training curves, the lineage graph.

Drawn here rather than by a plotting library: a chart is 2 KB instead of 13, takes a millisecond instead of 300, uses the page's
own fonts and colours (CSS variables, so one drawing serves light and dark), and the same numbers give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import escape

CURVES = {  # what is drawn of a stage's log: title -> keys, the first one present
    "loss": ("loss", "train/loss", "train_loss", "policy/loss"),
    "held-out loss": ("eval_loss", "heldout_loss", "eval/loss"),
    "reward": ("objective/score", "reward", "rewards/margins", "eval_rewards/margins"),
    "accuracy": ("eval_accuracy", "accuracy", "rewards/accuracies"),
    "KL, nats a response": ("objective/kl_nats", "kl_nats", "kl"),
    "response tokens": ("rollout/length_tokens", "response_length", "completions/mean_length"),
    "entropy, nats a token": ("objective/entropy_nats", "entropy"),
}
WIDTH = 300  # of a chart, in its own units
MOST_POINTS = 200  # of a curve

Points = Sequence[tuple[float, float]]


def interval_panel(panel: Mapping[str, Any], names: Sequence[str]) -> str:
    """One metric: each model's value with its interval, one below the other; dashed: chance; dotted: random weights.

    panel: {title, cells: {name: {value, low, high}}, chance, random, higher_is_better}.
    """
    row, top, left, right = 21, 34, 96, 14
    shown = {name: cell for name in names if (cell := panel["cells"].get(name)) and cell["value"] is not None}
    ends = [v for cell in shown.values() for v in (cell["low"], cell["value"], cell["high"]) if v is not None]
    marks = [v for v in (panel["chance"], panel["random"]) if v is not None]
    ticks = nice_ticks(min(ends + marks, default=0), max(ends + marks, default=1))
    x = _scale(ticks[0], ticks[-1], left, WIDTH - right)
    bottom = top + row * len(names)
    arrow = {True: " ↑", False: " ↓", None: ""}[panel["higher_is_better"]]
    parts = [_text(left - 88, 15, panel["title"] + arrow, "title")]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{bottom}"/>')
        parts.append(_text(x(tick), bottom + 14, _label(tick, ticks), "tick middle"))
    for value, kind in ((panel["chance"], "chance"), (panel["random"], "random")):
        if value is not None:
            parts.append(
                f'<line class="{kind}" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top - 6}" y2="{bottom}">'
                f"<title>{kind} {value:.4g}</title></line>"
            )
    for i, name in enumerate(names):
        y = top + row * (i + 0.5) - 3
        parts.append(_text(left - 8, y + 3.5, _short(name, 15), "tick end"))
        if cell := shown.get(name):
            spread = "" if cell["low"] is None else f" [{cell['low']:.4g}, {cell['high']:.4g}]"
            parts.append(
                f'<g style="--c: var(--c{i % 10})"><title>{escape(name)}: {cell["value"]:.4g}{spread}</title>'
                + (
                    ""
                    if cell["low"] is None
                    else f'<line class="whisker" x1="{x(cell["low"]):.1f}" x2="{x(cell["high"]):.1f}" y1="{y}" y2="{y}"/>'
                )
                + f'<circle class="value" cx="{x(cell["value"]):.1f}" cy="{y}" r="4"/></g>'
            )
    return _svg(WIDTH, bottom + 20, f"{panel['title']}: each model's value with its 95 % interval", parts)


def curve_panels(name: str, log: Sequence[Mapping[str, Any]]) -> list[str]:
    """Small charts of one stage's log, those of CURVES that it holds with at least two points."""
    charts = []
    for title, keys in CURVES.items():
        for key in keys:
            points = [
                (line["step"], line[key]) for line in log if is_number(line.get(key)) and is_number(line.get("step"))
            ]
            if len(points) >= 2:
                charts.append(line_chart(f"{name} · {title}", {key: points}, "step"))
                break
    return charts


def line_chart(title: str, series: Mapping[str, Points], x_label: str) -> str:
    """Lines through (x, y) points, each ending in a dot; with a legend where there are several."""
    left, right, bottom, legend = 46, 12, 158, 14 * len(series) if len(series) > 1 else 0
    top, bottom = 30 + legend, bottom + legend
    series = {name: _thinned(points) for name, points in series.items()}
    xs = [px for points in series.values() for px, _ in points]
    ys = [py for points in series.values() for _, py in points]
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs)), nice_ticks(min(ys), max(ys))
    x = _scale(min(xs), max(xs), left, WIDTH - right)
    y = _scale(y_ticks[0], y_ticks[-1], bottom, top)
    parts = [_text(8, 15, title, "title")]
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text(left - 6, y(tick) + 3.5, _label(tick, y_ticks), "tick end"))
    for tick in x_ticks:
        if min(xs) <= tick <= max(xs):
            parts.append(_text(x(tick), bottom + 15, _label(tick, x_ticks), "tick middle"))
    parts.append(_text((left + WIDTH - right) / 2, bottom + 29, x_label, "tick middle"))
    for i, (name, points) in enumerate(series.items()):
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in points)
        parts.append(
            f'<g style="--c: var(--c{i % 10})"><title>{escape(name)}: {points[0][1]:.4g} to {points[-1][1]:.4g}</title>'
            f'<polyline class="curve" points="{path}"/>'
            f'<circle class="value" cx="{x(points[-1][0]):.1f}" cy="{y(points[-1][1]):.1f}" r="2.6"/></g>'
        )
        if legend:
            parts.append(f'<circle style="--c: var(--c{i % 10})" class="value" cx="13" cy="{26.5 + 14 * i}" r="3.5"/>')
            parts.append(_text(22, 30 + 14 * i, _short(name, 44), "tick"))
    return _svg(WIDTH, bottom + 36, title, parts)


def lineage(nodes: Sequence[Mapping[str, Any]], edges: Sequence[tuple[str, str]]) -> str:
    """The graph from data to models, left to right by depth. nodes: {id, title, detail, kind: "data" | "model" | "other"}."""
    depth = {node["id"]: 0 for node in nodes}
    for _ in nodes:
        for parent, child in edges:
            depth[child] = max(depth[child], depth[parent] + 1)
    children: dict[str, list[int]] = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(depth[child])
    columns: dict[int, list] = {}
    for node in nodes:
        if node["kind"] == "data" and node["id"] in children:
            depth[node["id"]] = min(children[node["id"]]) - 1  # data stands beside what first reads it
        columns.setdefault(depth[node["id"]], []).append(node)
    width, height, gap_x, gap_y = 172, 42, 46, 14
    total_height = max(len(column) for column in columns.values()) * (height + gap_y) + gap_y
    place = {}
    for x, column in sorted(columns.items()):
        top = (total_height - len(column) * (height + gap_y) + gap_y) / 2
        for y, node in enumerate(column):
            place[node["id"]] = (8 + x * (width + gap_x), top + y * (height + gap_y))
    parts = []
    for parent, child in edges:
        (x1, y1), (x2, y2) = place[parent], place[child]
        x1, y1, y2 = x1 + width, y1 + height / 2, y2 + height / 2
        bend = (x1 + x2) / 2
        parts.append(
            f'<path class="edge" d="M{x1:.0f} {y1:.0f} C{bend:.0f} {y1:.0f} {bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"/>'
        )
    for node in nodes:
        x, y = place[node["id"]]
        parts.append(
            f'<g class="node {escape(node["kind"])}"><title>{escape(node["id"])} {escape(node["detail"])}</title>'
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{height}" rx="7"/>'
            + _text(x + 11, y + 18, _short(node["title"], 22), "title")
            + _text(x + 11, y + 33, _short(node["detail"], 24), "detail")
            + "</g>"
        )
    total_width = 16 + (max(columns) + 1) * (width + gap_x) - gap_x
    return _svg(
        total_width, total_height, "Lineage: which data and checkpoints each stage was made from", parts, "lineage"
    )


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` + 1 round values that enclose low..high."""
    if high <= low:
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread / 2, high + spread / 2
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def is_number(value: Any) -> bool:
    """A finite number, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _scale(low: float, high: float, start: float, end: float):
    width = (high - low) or 1.0
    return lambda value: start + (value - low) / width * (end - start)


def _label(tick: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if max(abs(t) for t in ticks) >= 10_000:
        return f"{tick / 1000:g}k"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:.{decimals + (round(step * 10**decimals, 6) % 1 > 0)}f}"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[-(most - 1) :]


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS points, evenly chosen, the last among them."""
    step = -(-len(points) // MOST_POINTS)
    chosen = list(points[::step])
    return chosen if chosen[-1] == points[-1] else [*chosen, points[-1]]


def _svg(width: float, height: float, label: str, parts: Sequence[str], kind: str = "chart") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
