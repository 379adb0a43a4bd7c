"""The Hugging Face interface gives what rouge_score and sacrebleu give, offline, alone and combined."""

import json

import evaluate
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from eval.hf_metrics import Bleu, Chrf, Rouge
from tests.eval.test_texts import OUTPUTS, REFERENCES


def test_each_metric_equals_its_library():
    data = {"predictions": OUTPUTS, "references": REFERENCES}
    scorer = RougeScorer(["rougeL"])
    expected = sum(scorer.score(r, o)["rougeL"].fmeasure for o, r in zip(OUTPUTS, REFERENCES, strict=True)) / len(
        OUTPUTS
    )
    assert Rouge().compute(**data)["rougeL"] == pytest.approx(expected)
    assert Bleu().compute(**data) == {"bleu": pytest.approx(BLEU().corpus_score(OUTPUTS, [REFERENCES]).score)}
    assert Chrf().compute(**data) == {"chrf": pytest.approx(CHRF().corpus_score(OUTPUTS, [REFERENCES]).score)}


def test_combined_metrics_fed_in_batches_can_be_saved(tmp_path):
    combined = evaluate.combine([Rouge(), Bleu()])
    combined.add_batch(predictions=OUTPUTS[:3], references=REFERENCES[:3])
    combined.add_batch(predictions=OUTPUTS[3:], references=REFERENCES[3:])
    result = combined.compute()
    assert result["bleu"] == pytest.approx(BLEU().corpus_score(OUTPUTS, [REFERENCES]).score)
    evaluate.save(tmp_path, **result)
    (saved,) = tmp_path.glob("*.json")
    assert json.loads(saved.read_text())["rouge1"] == pytest.approx(result["rouge1"])
