"""What an evaluation leaves: items with scores, metrics over them, and the files `eval.json` and `samples.jsonl`.

A metric names an aggregate (below) and the item scores that it sums; everything else (value, interval, paired difference
between two models) follows from the items, so that models are compared from their files alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from base_model.checkpoints import read_json_lines, write_text_atomically
from eval import statistics
from eval.statistics import Difference, Estimate

SCHEMA = 1


def _bits_per_unit(sums_RK: np.ndarray) -> np.ndarray:
    return -statistics.ratio(sums_RK) / math.log(2)


def _perplexity(sums_RK: np.ndarray) -> np.ndarray:
    """Infinite above 709.8 nats a unit: word perplexity of text without spaces."""
    with np.errstate(over="ignore"):
        return np.exp(-statistics.ratio(sums_RK))


def bleu(sums_RK: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4, 0-100, exponential smoothing, no effective order: sacrebleu's default.

    Statistics: length of hypothesis and reference, 4 counts of matching n-grams, 4 counts of the hypothesis' n-grams.
    """
    hypothesis_R, reference_R = sums_RK[:, 0], sums_RK[:, 1]
    correct_RN, total_RN = sums_RK[:, 2:6], sums_RK[:, 6:10]
    is_zero_RN = (np.rint(correct_RN) == 0) & (total_RN > 0)
    smoothing_RN = 2.0 ** np.cumsum(is_zero_RN, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_RN = np.where(is_zero_RN, 1 / (smoothing_RN * total_RN), correct_RN / total_RN)
        log_mean_R = np.log(precision_RN).mean(axis=1)
        brevity_R = np.minimum(0.0, 1 - reference_R / hypothesis_R)
        value_R = 100 * np.exp(log_mean_R + brevity_R)
    nothing_R = (np.rint(correct_RN).sum(axis=1) == 0) | (total_RN == 0).any(axis=1)
    return np.where(nothing_R, 0.0, value_R)


def chrf(sums_RK: np.ndarray) -> np.ndarray:
    """Corpus chrF2, 0-100: mean precision P and recall R over character 1- to 6-grams, F = 5 P R / (4 P + R).

    Statistics: for each order the n-grams of the hypothesis, of the reference, and the matching ones. Orders that either side
    lacks leave the mean (sacrebleu's default).
    """
    grams_R63 = sums_RK.reshape(len(sums_RK), 6, 3)
    hypothesis_RN, reference_RN, match_RN = grams_R63[..., 0], grams_R63[..., 1], grams_R63[..., 2]
    is_present_RN = (np.rint(hypothesis_RN) > 0) & (np.rint(reference_RN) > 0)
    count_R = np.maximum(1, is_present_RN.sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_R = np.where(is_present_RN, match_RN / hypothesis_RN, 0).sum(axis=1) / count_R
        recall_R = np.where(is_present_RN, match_RN / reference_RN, 0).sum(axis=1) / count_R
        value_R = 500 * precision_R * recall_R / (4 * precision_R + recall_R)
    return np.where(precision_R + recall_R > 0, value_R, 0.0)


AGGREGATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": statistics.ratio,  # of one score; a count of items stands below it
    "proportion": statistics.ratio,  # the same of a score in [0, 1] that is 0 or 1 but for ties
    "ratio": statistics.ratio,
    "bits_per_unit": _bits_per_unit,
    "perplexity": _perplexity,
    "bleu": bleu,
    "chrf": chrf,
}


@dataclass(frozen=True)
class Metric:
    """What is measured on a set: which item scores, aggregated how, read how."""

    set: str
    name: str
    aggregate: str  # a key of AGGREGATES, or "given": a value without interval
    fields: tuple[str, ...]
    higher_is_better: bool | None = True  # None: neither (a length)
    unit: str = ""
    chance: float | None = None
    is_headline: bool = False
    is_optimised: bool = False  # a training stage maximised this very number: shown, no benchmark
    signature: str = ""  # how the number was made, for a methods section
    given: float | None = None

    @property
    def key(self) -> str:
        return f"{self.set}/{self.name}"


def item_hash(*content: Any) -> str:
    """Hash of what an item asks, the same for every model that is asked it."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def items_sha256(items: Sequence[dict]) -> str:
    return hashlib.sha256("\n".join(sorted(item["item"] for item in items)).encode()).hexdigest()


def statistics_of(metric: Metric, items: Sequence[dict]) -> np.ndarray:
    """(N, K) item statistics of a metric; a mean gets its count as second column."""
    rows = []
    for item in items:
        values = [item["scores"][name] for name in metric.fields]
        rows.append([number for value in values for number in (value if isinstance(value, list) else [value])])
    stats_NK = np.asarray(rows, dtype=float).reshape(len(items), -1)
    if metric.aggregate in ("mean", "proportion"):
        stats_NK = np.concatenate([stats_NK, np.ones((len(items), 1))], axis=1)
    return stats_NK


def scored(metric: Metric, items: Sequence[dict]) -> list[dict]:
    """The items that have the metric's scores: all, but for metrics against a reference where some items have none."""
    return [item for item in items if all(name in item["scores"] for name in metric.fields)]


def clusters_of(items: Sequence[dict]) -> list | None:
    """Cluster of each item where items come in groups, else None."""
    clusters = [item.get("cluster", item["item"]) for item in items]
    return clusters if len(set(clusters)) < len(items) else None


def estimate(metric: Metric, items: Sequence[dict]) -> Estimate:
    """Value and 95 % interval over items or their clusters (`eval.statistics`)."""
    if metric.aggregate == "given":
        return Estimate(float(metric.given), math.nan, math.nan, len(items))
    items = scored(metric, items)
    stats_NK, clusters = statistics_of(metric, items), clusters_of(items)
    if metric.aggregate in ("mean", "proportion"):
        return statistics.mean_interval(stats_NK[:, 0], clusters=clusters)
    result = statistics.interval(stats_NK, AGGREGATES[metric.aggregate], clusters=clusters)
    return result if math.isfinite(result.value) else dataclasses.replace(result, warning=why_undefined(metric))


def why_undefined(metric: Metric) -> str:
    """Why a metric has no finite value."""
    if metric.aggregate == "perplexity":
        return "overflows: more than 709 nats a unit; read bits per byte"
    return "nothing to divide by: the denominators sum to 0"


def difference(metric: Metric, items_a: Sequence[dict], items_b: Sequence[dict]) -> Difference:
    """Paired difference A - B. Raises ValueError unless both hold the same items."""
    items_a, by_item = scored(metric, items_a), {item["item"]: item for item in scored(metric, items_b)}
    hashes = [item["item"] for item in items_a]
    if set(hashes) != set(by_item) or len(hashes) != len(by_item):
        common = len(set(hashes) & set(by_item))
        raise ValueError(
            f"{metric.key}: the two models were not asked the same items ({len(hashes)} and {len(by_item)}, {common} in common), so they "
            "can't be compared; evaluate both on one suite"
        )
    items_b = [by_item[name] for name in hashes]
    a_NK, b_NK, clusters = statistics_of(metric, items_a), statistics_of(metric, items_b), clusters_of(items_a)
    if metric.aggregate in ("mean", "proportion"):
        return statistics.paired_difference(a_NK[:, 0], b_NK[:, 0], clusters=clusters)
    if metric.aggregate == "bits_per_unit" and (a_NK[:, 1] == b_NK[:, 1]).all():
        scale = -math.log(2)
        return statistics.paired_difference(
            a_NK[:, 0] / scale, b_NK[:, 0] / scale, weights=a_NK[:, 1], clusters=clusters
        )
    made = statistics.paired_statistic(a_NK, b_NK, AGGREGATES[metric.aggregate], clusters=clusters)
    return made if math.isfinite(made.mean) else dataclasses.replace(made, warning=why_undefined(metric))


@dataclass
class Evaluation:
    """Everything measured on one checkpoint. `items` are read from samples.jsonl only when asked for."""

    checkpoint: str
    suite: dict[str, Any]  # name, sha256, settings
    metrics: list[
        dict[str, Any]
    ]  # Metric's fields with value, low, high, n, warning, smallest_detectable, items_sha256
    checks: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None  # of the safetensors files; None for a hub id
    failure: str | None = None  # why there are no metrics
    folder: Path | None = None
    loaded_items: list[dict] | None = field(default=None, repr=False)

    @classmethod
    def load(cls, folder: Path | str) -> Evaluation:
        """Read `folder/eval.json`. Raises FileNotFoundError, or ValueError if the file is of another schema or damaged."""
        path = Path(folder) / "eval.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no eval.json; evaluate it: python -m recipes.evaluation --model {folder} ..."
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); evaluate {folder} again") from None
        schema = values.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"{path} has schema {schema}, this program reads {SCHEMA}; evaluate {folder} again")
        return cls(**values, folder=Path(folder))

    def save(self, folder: Path | str) -> None:
        """Write samples.jsonl, then eval.json, each atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(item, ensure_ascii=True) for item in self.items)
        write_text_atomically(folder / "samples.jsonl", "".join(line + "\n" for line in lines))
        skipped = ("folder", "loaded_items")
        values = {"schema": SCHEMA, **{k: v for k, v in vars(self).items() if k not in skipped and k != "items_of_set"}}
        write_text_atomically(folder / "eval.json", json.dumps(finite(values), indent=1, ensure_ascii=False) + "\n")
        self.folder = folder

    @property
    def items(self) -> list[dict]:
        """Per-item results, in the order measured."""
        if self.loaded_items is None:
            self.loaded_items = list(read_json_lines(self.folder / "samples.jsonl"))
        return self.loaded_items

    @cached_property
    def items_of_set(self) -> dict[str, list[dict]]:
        """{set name: its items}."""
        by_set: dict[str, list[dict]] = {}
        for item in self.items:
            by_set.setdefault(item["set"], []).append(item)
        return by_set

    def metric(self, key: str) -> dict[str, Any]:
        """The metric "set/name". Raises KeyError with the names there are."""
        for metric in self.metrics:
            if f"{metric['set']}/{metric['name']}" == key:
                return metric
        raise KeyError(f"no metric {key!r}; there are: {', '.join(m['set'] + '/' + m['name'] for m in self.metrics)}")

    def summary(self) -> dict[str, dict[str, Any]]:
        """{"set/name": {value, low, high, n, chance}}, for run records and model cards."""
        keys = ("value", "low", "high", "n", "chance")
        return {f"{m['set']}/{m['name']}": {key: m[key] for key in keys} for m in self.metrics}


def measured(metric: Metric, items: Sequence[dict], random_init: dict[str, Any] | None = None) -> dict[str, Any]:
    """A metric's entry in eval.json; random_init: what the same architecture with random weights has.

    The smallest detectable difference is the unpaired bound: pairing makes it smaller.
    """
    result = estimate(metric, items)
    half = (result.high - result.low) / 2  # about 1.96 standard errors
    detectable = statistics.smallest_detectable(math.sqrt(2) * half / 1.959964)
    about = {"smallest_detectable": detectable, "items_sha256": items_sha256(items), "random_init": random_init}
    return finite({**asdict(metric), **result.as_dict(), **about})


def as_metric(entry: dict[str, Any]) -> Metric:
    """The Metric that an entry of eval.json was made from."""
    values = {name: entry[name] for name in Metric.__dataclass_fields__}
    return Metric(**{**values, "fields": tuple(values["fields"])})


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
