"""Numbers and texts as a person reads them: shared by the terminal, the page and the Markdown report."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any


def visible(value: Any) -> Any:
    """Every text of a JSON value with what can't be printed made visible: lone surrogates, control and direction characters."""
    if isinstance(value, str):
        return "".join(_visible_character(c) for c in value) if HIDDEN.search(value) else value
    if isinstance(value, Mapping):
        return {visible(key): visible(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible(item) for item in value]
    return value


HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff0-\ufff8\ufffe\uffff\ud800-\udfff]"
)


def _visible_character(character: str) -> str:
    if not HIDDEN.match(character):
        return character
    if character < " ":
        return chr(0x2400 + ord(character))  # the picture of the control character
    return f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) != "Cs" else "\ufffd"


def embedded_json(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a <script> element: no "<", ">" or "&" as such."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def number(value: float | None, digits: int = 3) -> str:
    """A value as a person reads it; None and NaN are a dash."""
    if value is None or value != value:
        return "–"
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:.2e}"


def signed(value: float | None) -> str:
    return (
        "–"
        if value is None or value != value
        else f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"
    )


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def p_value(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def gib(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**30:.2f} GiB"


def reading(verdict: str) -> str:
    """A change's verdict in the report's words."""
    return {"same": "no detectable difference", "undefined": "no verdict", "more": "higher", "less": "lower"}.get(
        verdict, verdict
    )


def markdown_cell(value: Any) -> str:
    """Text for a cell of a Markdown table: one line, nothing that opens markup."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def fence(text: str) -> str:
    """Text as a fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"
