"""Every comparison that was ever made on the same held-out items, and the level that each could spend.

200 variants tried overnight against one baseline at 0.05 each crown ten of noise. Here the k-th comparison on a set of items is held
against its own level, so that over all that will ever be made, however many and however dependent, the chance of one false "better" or
"worse" stays below ALPHA ("online fallback", Tian & Ramdas 2021, arXiv:1910.04900):

    level_k = ALPHA * gamma_k + (level_{k-1} if the comparison before was decided, else 0),   gamma_k = k^-1.6 / zeta(1.6)

Early comparisons cost more than late ones: ask what matters first. The ledger is a file of JSON lines beside the items, of an ending that
no reader takes for data. Which of its lines count is told by the items themselves: a sketch of each comparison's item names (the smallest
hashes) finds those that share at least half of the smaller set, so leaving a few items out opens no new account. The same scores compared
again cost nothing.

A reserve is a share of the items (by hash of the item or its cluster) that ordinary comparisons never see. It may be opened once, for one
comparison, at the whole ALPHA; the first line of the ledger that names a share fixes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.referee import Paired, Verdict, without
from eval.statistics import ALPHA

FILE = "verdicts.ledger"
POWER_OF_GAMMA = 1.6  # Tian & Ramdas' choice
ZETA = 2.285765  # of 1.6
SKETCH = 64  # item hashes that stand for a set
LEAST_SHARED = 0.5  # of the smaller sketch: below, two sets are not the same


@dataclass(frozen=True)
class Spent:
    """What the ledger said of a comparison: its number among those on these items, and the level it got."""

    number: int
    level: float
    is_repeat: bool


def next_level(decided: Sequence[bool], levels: Sequence[float]) -> float:
    """The level of the next comparison, given whether each one before was decided, and at which level."""
    number = len(levels) + 1
    return ALPHA * number**-POWER_OF_GAMMA / ZETA + (levels[-1] if levels and decided[-1] else 0.0)


def referee(
    path: Path, paired: Paired, about: dict[str, Any], judged: Callable[[Paired, float], Verdict], *,
    reserve: float | None = None, is_opening: bool = False,
) -> tuple[Verdict, Spent]:  # fmt: skip
    """`judged(items, level)` at the level that the ledger at `path` grants, recorded there. about: candidate, baseline, metric, margin.

    Raises ValueError where the reserve was opened already, where there is none to open, and where its share is another than recorded."""
    with _locked(path) as ledger:
        own = [line for line in ledger if _is_same_set(line["sketch"], sketch(paired.items))]
        share = _share(own, reserve, path)
        opened = next((line for line in own if line["kind"] == "reserve"), None)
        if is_opening and opened:
            raise ValueError(
                f"{path}: the reserve of these items was opened on {opened['time'][:10]}, for {opened['about']['candidate']}; "
                "what it holds is known by now, so it can't confirm anything else. New items can."
            )
        if is_opening and not share:
            raise ValueError(
                f"{path} keeps no reserve of these items; the first comparison sets one aside: --reserve 0.2"
            )
        whole = paired.items
        if share:
            groups = paired.clusters or whole
            paired = without(paired, [is_reserved(group, share) == is_opening for group in groups])
        asked = _asked_sha256(paired, about)
        kind = "reserve" if is_opening else "comparison"
        for line in own:
            if line["kind"] == kind and line["asked_sha256"] == asked:
                return judged(paired, line["level"]), Spent(line["number"], line["level"], True)
        before = [line for line in own if line["kind"] == "comparison"]
        level = ALPHA if is_opening else next_level([b["decided"] for b in before], [b["level"] for b in before])
        verdict = judged(paired, level)
        number = 1 if is_opening else len(before) + 1
        ledger.append(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "kind": kind,
                "number": number,
                "about": about,
                "level": level,
                "p": None if verdict.p != verdict.p else verdict.p,
                "verdict": verdict.verdict,
                "decided": verdict.p < level,
                "n": len(paired.items),
                "reserve": share,
                "asked_sha256": asked,
                "sketch": own[0]["sketch"] if own else sketch(whole),  # parts keep counting on the first
            }
        )
        return verdict, Spent(number, level, False)


def is_reserved(group: str, share: float) -> bool:
    """Whether an item (or its cluster) belongs to the reserve: by its hash alone, the same in every comparison."""
    return int(_digest(f"reserve {group}")[:12], 16) < share * 16**12


def sketch(items: Sequence[str]) -> list[str]:
    """The SKETCH smallest hashes of item names, in order: two sets' sketches tell how much of the smaller is in the larger."""
    return sorted(_digest(item)[:16] for item in items)[:SKETCH]


def _is_same_set(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether the smaller of two sets is mostly in the larger: compared below the bound up to which both sketches are complete."""
    bound = min(a[-1] if len(a) == SKETCH else "g", b[-1] if len(b) == SKETCH else "g")  # "g" is above every hash
    below = [{value for value in found if value <= bound} for found in (a, b)]
    smaller = min(map(len, below))
    return smaller > 0 and len(below[0] & below[1]) >= LEAST_SHARED * smaller


def _share(own: Sequence[dict], asked: float | None, path: Path) -> float:
    if asked is not None and not 0 < asked < 1:
        raise ValueError(f"a reserve is a share of the items between 0 and 1, got {asked}")
    if own and asked is not None and asked != own[0]["reserve"]:
        kept = f"a reserve of {own[0]['reserve']}" if own[0]["reserve"] else "no reserve, and all items have been seen"
        raise ValueError(f"{path}: the first comparison on these items set aside {kept}; it can't become {asked} now")
    return own[0]["reserve"] if own else asked or 0.0


@contextmanager
def _locked(path: Path) -> Iterator[list[dict]]:
    """The ledger's lines; those appended are added to the file. One process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        lines = []
        for number, text in enumerate(file.read().splitlines(), start=1):
            try:
                lines.append(json.loads(text))
                _ = lines[-1]["sketch"], lines[-1]["level"]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise ValueError(
                    f"{path}, line {number}, is no comparison; a ledger is written by this program alone. Restore it: "
                    "without it nobody knows how often these items were used"
                ) from None
        known = len(lines)
        yield lines
        for line in lines[known:]:
            file.write(json.dumps(line, sort_keys=True) + "\n")
        file.flush()


def _asked_sha256(paired: Paired, about: dict[str, Any]) -> str:
    """Hash of what is compared: all scores, the metric and the margin; not what the models are called."""
    digest = hashlib.sha256(json.dumps([paired.items, about["metric"], about["margin"]]).encode())
    for scores in (paired.candidate_SN, paired.baseline_SN):
        digest.update(repr(scores.shape).encode() + scores.tobytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
