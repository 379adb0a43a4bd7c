"""ROUGE, BLEU and chrF as `evaluate.Metric`s that need no network: the numbers of the harness behind the Hugging Face interface.

    rouge = Rouge(); rouge.compute(predictions=[...], references=[...])      evaluate.combine([Rouge(), Bleu(), Chrf()])

`evaluate.load("rouge")` downloads a script from the hub, which offline machines can't and which runs remote code.
"""

from __future__ import annotations

import datasets
import evaluate

from eval.results import Metric, estimate
from eval.texts import TEXT_METRICS

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class _TextMetric(evaluate.Metric):
    """The metrics of one family of `eval.texts.TEXT_METRICS`, {name: value}."""

    family = ""

    def __init__(self, **options) -> None:
        super().__init__(**{"keep_in_memory": True, **options})

    def _info(self) -> evaluate.MetricInfo:
        made = TEXT_METRICS[self.family]
        return evaluate.MetricInfo(
            description=f"{', '.join(made.names)} ({made.signature()})",
            citation="",
            inputs_description="predictions and references: one string each an item",
            features=_FEATURES,
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        made = TEXT_METRICS[self.family]
        pairs = zip(predictions, references, strict=True)
        items = [
            {"item": str(i), "scores": made.score(output, [reference])} for i, (output, reference) in enumerate(pairs)
        ]
        return {
            name: estimate(Metric(self.family, name, aggregate, fields), items).value
            for name, (aggregate, fields, _) in made.names.items()
        }


class Rouge(_TextMetric):
    family = "rouge"


class Bleu(_TextMetric):
    family = "bleu"


class Chrf(_TextMetric):
    family = "chrf"
