"""What `evaluate` leaves, and that no broken model looks good. Real checkpoints with chosen weights, read from disk."""

import copy
import json
import math
import weakref

import pytest
import torch

from eval.compare import compare
from eval.harness import evaluate, load_checkpoint
from eval.results import Evaluation, as_metric, estimate, items_sha256
from eval.scorer import NonFiniteError
from eval.suite import Suite
from tests.conftest import TEXTS, random_model, write_checkpoint

N = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data of a small suite: texts, prompts with references, and questions whose choices are the letters A and B."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "tasks").mkdir()

    def write(name, rows):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("texts.jsonl", [{"text": f"{text} {i}"} for i, text in enumerate(TEXTS[:N])])
    prompts = [
        {
            "prompt": [{"role": "user", "content": f"{text} {i}"}],
            "completion": TEXTS[-1 - i],
            "kind": "story",
            "group": i // 2,
        }
        for i, text in enumerate(TEXTS[:N])
    ]
    write("prompts.jsonl", prompts)
    letters = [{"q": f"{text} {i} Answer:", "answer": i % 2} for i, text in enumerate(TEXTS[:N])]
    write("tasks/letters.jsonl", letters)
    (folder / "tasks" / "letters.yaml").write_text(
        "task: letters\ndataset_path: json\ndataset_kwargs: {data_files: {test: letters.jsonl}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: ["A", "B"]\ndoc_to_target: answer\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


def suite_of(folder, **changes) -> Suite:
    settings = {
        "name": "small",
        "likelihood": {"texts": str(folder / "texts.jsonl")},
        "generation": {"prompts": {"path": str(folder / "prompts.jsonl"), "max_new_tokens": 12}},
        "benchmarks": ["letters"],
        "include_path": [str(folder / "tasks")],
        "random_init": 0,
    }
    return Suite(**settings | changes)


def fixed_checkpoint(folder, tokenizer, token: int):
    """A GPT-2 whose next token is always `token`, whatever it reads: its last norm gives one vector, the token's own."""
    model = random_model("gpt2", len(tokenizer))
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(torch.randn(32, generator=torch.Generator().manual_seed(0)))
        model.transformer.wte.weight[token] = model.transformer.ln_f.bias
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def failed(evaluation) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in evaluation.checks if not check["passed"]}


def test_an_evaluation_says_what_was_measured_how_and_on_what(folder, llama_checkpoint, tmp_path):
    def wordy(prompts, completions, *, kind, reference, **columns):
        assert kind == ["story"] * len(prompts) and set(reference) <= set(TEXTS)
        return [len(text.split()) / 100 for text in completions]

    generation = {
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "max_new_tokens": 12,
            "judges": ["wordy"],
            "cluster": "group",
        }
    }
    suite = suite_of(folder, generation=generation, random_init=6)
    result = evaluate(llama_checkpoint, suite, judges={"wordy": wordy}, out=tmp_path / "run", progress=False)
    again = Evaluation.load(tmp_path / "run")
    assert again.metrics == result.metrics and again.items == result.items
    assert len(again.items) == 3 * N
    entry = again.metric("texts/bits_per_byte")
    assert entry["n"] == N and entry["low"] < entry["value"] < entry["high"] and entry["unit"] == "bits/byte"
    assert entry["items_sha256"] == items_sha256(again.items_of_set["texts"])
    assert again.metric("letters/acc")["chance"] == 0.5
    assert again.metric("prompts/wordy")["signature"].startswith("judge")
    assert (
        "rouge_score" in again.metric("prompts/rougeL")["signature"]
        and "version:" in again.metric("prompts/bleu")["signature"]
    )
    assert (
        again.metric("letters/acc")["random_init"]["n"] == 6
        and again.metric("prompts/wordy")["random_init"]["value"] >= 0
    )
    assert {"cost", "environment", "weights_sha256"} <= set(vars(again)) and again.cost["sets_s"].keys() == {
        "texts",
        "prompts",
        "letters",
    }
    assert again.items_of_set["prompts"][3]["cluster"] == "1" and again.items_of_set["prompts"][3]["label"] == "story"
    assert again.summary()["letters/acc"].keys() == {"value", "low", "high", "n", "chance"}
    # every value can be had again from the items alone
    for entry in again.metrics:
        assert estimate(as_metric(entry), again.items_of_set[entry["set"]]).value == pytest.approx(
            entry["value"], nan_ok=True
        )


def test_random_weights_are_measured_once_for_an_architecture(folder, gpt2_checkpoint, tmp_path):
    suite = suite_of(folder, random_init=5)
    first = evaluate(gpt2_checkpoint, suite, out=tmp_path / "a", progress=False)
    (kept,) = (tmp_path / ".random_init").iterdir()
    row = json.loads(kept.read_text())
    kept.write_text(json.dumps(row | {"letters/acc": {"value": 0.123, "low": None, "high": None, "n": 5}}))
    second = evaluate(gpt2_checkpoint, suite, out=tmp_path / "b", progress=False)
    assert first.metric("letters/acc")["random_init"]["n"] == 5
    assert second.metric("letters/acc")["random_init"]["value"] == 0.123


def test_same_checkpoint_same_suite_same_numbers_and_the_callers_random_state_is_untouched(folder, llama_checkpoint):
    import random

    import numpy as np

    def states():
        return random.getstate()[1][:5], np.random.get_state()[1][:5].tolist(), torch.get_rng_state()[:40].tolist()

    before = states()
    suite = suite_of(folder)
    first, second = (evaluate(llama_checkpoint, suite, progress=False) for _ in range(2))
    assert first.metrics == second.metrics and first.items == second.items
    assert states() == before


def test_a_model_of_nans_is_refused_and_its_file_says_why(folder, tokenizer, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "nan", tokenizer, "llama")
    model, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = math.nan
    model.save_pretrained(checkpoint)
    with pytest.raises(
        NonFiniteError, match=r"nan can't be measured: .* scores are not finite \(the weights model.layers.0"
    ):
        evaluate(checkpoint, suite_of(folder), out=checkpoint, progress=False)
    left = Evaluation.load(checkpoint)
    assert left.metrics == [] and failed(left).keys() == {"finite"}
    good = evaluate(
        write_checkpoint(tmp_path / "good", tokenizer), suite_of(folder), out=tmp_path / "good", progress=False
    )
    assert good.failure is None
    comparison = compare([tmp_path / "good", checkpoint])
    assert any("can't be measured" in check["detail"] for check in comparison.checks if not check["passed"])


def test_a_model_that_always_takes_the_first_choice_is_named(folder, tokenizer, tmp_path):
    token = tokenizer(" A", add_special_tokens=False)["input_ids"]
    result = evaluate(fixed_checkpoint(tmp_path / "a", tokenizer, token[-1]), suite_of(folder), progress=False)
    assert failed(result)["reads the choices (letters)"] == "always picks choice 1, which is right in 50%"
    acc = result.metric("letters/acc")
    assert acc["value"] == acc["chance"] == 0.5 and acc["low"] < 0.5 < acc["high"]


def test_an_answer_ends_at_each_of_the_checkpoints_own_stop_tokens(folder, tokenizer, tmp_path):
    """The model says one token for ever; it is no end token of the tokenizer's, but generation_config lists it, so each answer is over."""
    checkpoint = fixed_checkpoint(tmp_path / "listed", tokenizer, 7)
    assert evaluate(checkpoint, suite_of(folder), progress=False).metric("prompts/stop_rate")["value"] == 0
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7], "repetition_penalty": 9.0}))
    result = evaluate(checkpoint, suite_of(folder), progress=False)
    assert result.metric("prompts/stop_rate")["value"] == result.metric("prompts/response_tokens")["value"] == 1


def test_a_model_that_says_nothing_is_named(folder, tokenizer, tmp_path):
    result = evaluate(
        fixed_checkpoint(tmp_path / "e", tokenizer, tokenizer.eos_token_id), suite_of(folder), progress=False
    )
    said = failed(result)
    assert said["says something (prompts)"] == f"says nothing (n = {N})"
    assert said["no collapse (prompts)"] == f"1 different outputs to {N} prompts"
    assert result.metric("prompts/empty_rate")["value"] == 1
    for metric in ("rouge1", "rougeL", "bleu", "chrf", "f1", "exact_match"):
        assert result.metric(f"prompts/{metric}")["value"] == 0


def test_a_model_that_never_stops_is_named(folder, tokenizer, tmp_path):
    token = tokenizer(" the", add_special_tokens=False)["input_ids"][-1]
    result = evaluate(fixed_checkpoint(tmp_path / "n", tokenizer, token), suite_of(folder), progress=False)
    said = failed(result)
    assert said["stops (prompts)"] == f"never stops (n = {N})"
    assert result.metric("prompts/stop_rate")["value"] == 0 and result.metric("prompts/response_tokens")["value"] == 12
    assert result.metric("prompts/distinct_2")["value"] == pytest.approx(1 / 11)  # one bigram, eleven times
    assert "no collapse (prompts)" in said


def test_control_tokens_inside_an_output_are_counted(folder, tokenizer, tmp_path):
    result = evaluate(
        fixed_checkpoint(tmp_path / "u", tokenizer, 4), suite_of(folder), progress=False
    )  # <|user|> for ever
    assert failed(result)["no stray control tokens (prompts)"] == f"in {N} of {N} outputs"


def test_prompts_go_through_the_checkpoints_template_or_the_plain_form(folder, tokenizer, tmp_path):
    from base_model.chat import set_chat_template
    from eval.generation import Decoding, respond

    model = random_model("llama", len(tokenizer))
    chatty = set_chat_template(copy.deepcopy(tokenizer))
    several = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "The baker."},
        {"role": "user", "content": "Where?"},
    ]
    from transformers import GenerationConfig

    for with_template in (True, False):
        chosen = chatty if with_template else tokenizer
        (ours,), _ = respond(model, chosen, [several], Decoding(max_new_tokens=10))
        if with_template:
            ids = chatty.apply_chat_template(several, add_generation_prompt=True, return_dict=False)
        else:
            plain = "User: Who?\n\nAssistant: The baker.\n\nUser: Where?\n\nAssistant:"
            ids = [1, *tokenizer(plain, add_special_tokens=False)["input_ids"]]
        settings = GenerationConfig(max_new_tokens=10, do_sample=False, eos_token_id=2, pad_token_id=0)
        theirs = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), generation_config=settings)
        assert ours.text == tokenizer.decode(theirs[0, len(ids) :], skip_special_tokens=True).strip()


def test_kl_by_sampling_equals_enumeration_over_all_responses(tokenizer):
    """Two tokens over a small vocabulary: every response is enumerated; the estimate's mean is compared with the exact KL."""
    from eval.preference import sequence_kl_nats

    model, other = (random_model("llama", 7, seed=s) for s in (1, 2))
    with torch.no_grad():  # sharper, so that the KL is not tiny
        model.model.embed_tokens.weight.mul_(40)
    prompt = [1, 3, 5]

    def logprobs(m, ids):
        with torch.no_grad():
            return m(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)

    exact = 0.0
    weighted = 0.0
    first = logprobs(model, prompt)
    for a in range(7):
        second = logprobs(model, [*prompt, a])
        for b in range(7):
            log_p = first[a] + second[b]
            log_q = logprobs(other, prompt)[a] + logprobs(other, [*prompt, a])[b]
            exact += float(log_p.exp() * (log_p - log_q))
            (along,) = sequence_kl_nats(model, other, [prompt], [[a, b]])
            weighted += float(log_p.exp()) * along
    assert exact > 0.01
    assert weighted == pytest.approx(exact, rel=1e-4)  # float32 logits
    assert sequence_kl_nats(model, model, [prompt], [[2, 4]]) == [0.0]


def test_kl_is_measured_where_a_reference_is_given(folder, tokenizer, tmp_path):
    suite = suite_of(folder, kl={"path": str(folder / "prompts.jsonl"), "limit": 8, "max_new_tokens": 6})
    one, two = (write_checkpoint(tmp_path / f"m{seed}", tokenizer, "gpt2", seed) for seed in (0, 1))
    assert evaluate(one, suite, reference=one, progress=False).metric("kl/kl_nats")["value"] == pytest.approx(
        0, abs=1e-6
    )
    assert evaluate(one, suite, reference=two, progress=False).metric("kl/kl_nats")["low"] > 0
    assert "kl/kl_nats" not in evaluate(one, suite, progress=False).summary()
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["newword"])
    write_checkpoint(tmp_path / "other", other, "gpt2")
    with pytest.raises(ValueError, match="KL needs one tokenizer"):
        evaluate(one, suite, reference=tmp_path / "other", progress=False)


def test_a_judge_that_a_stage_hands_in_is_marked_as_optimised(folder, llama_checkpoint):
    proxy = lambda prompts, completions, **columns: [0.5] * len(completions)  # noqa: E731
    result = evaluate(llama_checkpoint, suite_of(folder), judges={"reward_model": proxy}, progress=False)
    entry = result.metric("prompts/reward_model")
    assert entry["is_optimised"] and not entry["is_headline"]


def test_a_judge_that_is_not_there_yet_is_left_out_and_one_that_is_scores_without_being_optimised(
    folder, llama_checkpoint
):
    asked = {"path": str(folder / "prompts.jsonl"), "max_new_tokens": 12, "judges_once_there": ["runs/gold"]}
    suite = suite_of(folder, generation={"prompts": asked})
    before = evaluate(llama_checkpoint, suite, progress=False)
    gold = lambda prompts, completions, **columns: [0.25] * len(completions)  # noqa: E731
    after = evaluate(llama_checkpoint, suite, judges={"runs/gold": gold}, progress=False)
    assert "prompts/runs/gold" not in before.summary()
    entry = after.metric("prompts/runs/gold")
    assert entry["value"] == 0.25 and entry["is_headline"] and not entry["is_optimised"]
    assert before.suite["sha256"] == after.suite["sha256"]


def test_a_judge_may_leave_outputs_out_and_say_that_lower_is_better(folder, llama_checkpoint):
    def rude(prompts, completions, **columns):
        return [None, 1.0, 0.0, 0.0] + [None] * (len(completions) - 4)

    rude.higher_is_better = False
    nowhere = lambda prompts, completions, **columns: [None] * len(completions)  # noqa: E731
    asked = {"path": str(folder / "prompts.jsonl"), "max_new_tokens": 12, "judges": ["rude", "nowhere"]}
    suite = suite_of(folder, generation={"prompts": asked})
    result = evaluate(llama_checkpoint, suite, judges={"rude": rude, "nowhere": nowhere}, progress=False)
    entry = result.metric("prompts/rude")
    assert entry["n"] == 3 and entry["value"] == pytest.approx(1 / 3)
    assert entry["higher_is_better"] is False and not entry["is_headline"]
    assert "prompts/nowhere" not in result.summary()


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], "judge j gave 1 scores for 24 outputs"), ([math.nan] * N, "judge j gave nan for output 0")],
)
def test_a_judge_that_answers_wrongly_is_named(folder, llama_checkpoint, scores, message):
    with pytest.raises(ValueError, match=message):
        evaluate(llama_checkpoint, suite_of(folder), judges={"j": lambda p, c, **k: scores}, progress=False)


def test_what_can_not_be_evaluated_is_refused_in_one_sentence(folder, tokenizer, tmp_path, llama_checkpoint):
    generation = {"prompts": {"path": str(folder / "prompts.jsonl"), "judges": ["gold"]}}
    with pytest.raises(ValueError, match="suite 'small' asks for the judge 'gold', and none of that name was given"):
        evaluate(llama_checkpoint, suite_of(folder, generation=generation))
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        evaluate(tmp_path / "nowhere", suite_of(folder))
    config = {"architectures": ["LlamaForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is a LlamaForSequenceClassification; this evaluates causal models"):
        evaluate(tmp_path, suite_of(folder))
    long = {"prompts": {"path": str(folder / "prompts.jsonl"), "max_new_tokens": 128}}
    with pytest.raises(ValueError, match="max_new_tokens 128 leaves no room for a prompt in a context of 128"):
        evaluate(llama_checkpoint, suite_of(folder, generation=long), progress=False)


def test_an_evaluation_file_that_is_missing_damaged_or_of_another_schema_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no eval.json; evaluate it"):
        Evaluation.load(tmp_path)
    (tmp_path / "eval.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        Evaluation.load(tmp_path)
    (tmp_path / "eval.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="has schema 99, this program reads 1"):
        Evaluation.load(tmp_path)


def test_generation_is_bounded_by_memory_and_an_out_of_memory_halves_its_rows(tokenizer, monkeypatch):
    import base_model.generate
    from eval import generation
    from eval.generation import Decoding

    model = random_model("llama", len(tokenizer))
    prompts = [[1, 10 + i] for i in range(7)]
    expected = generation.continue_ids(model, tokenizer, prompts, Decoding(max_new_tokens=6))
    # 2 layers, 2 key/value heads of width 8, keys and values, 4 bytes: 256 bytes a token
    assert generation.cache_tokens(model) == generation.CPU_CACHE_BYTES // 256
    real, rows = base_model.generate.generate, []

    def limited(*args, batch_size, **kwargs):
        rows.append(batch_size)
        if batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(base_model.generate, "generate", limited)
    assert generation.continue_ids(model, tokenizer, prompts, Decoding(max_new_tokens=6)) == expected
    assert rows[1:] == [3, 1]


def test_a_few_long_prompts_do_not_make_the_many_short_ones_long_on_a_cpu(tokenizer, monkeypatch):
    from base_model.decoder import Decoder
    from eval import generation
    from eval.generation import Decoding

    read = []
    real = Decoder.prefill
    monkeypatch.setattr(
        Decoder, "prefill", lambda self, tokens, *rest: read.append(tokens.numel()) or real(self, tokens, *rest)
    )
    prompts = [[1, 10 + i, 20 + i] for i in range(190)] + [[1, 10 + i] * 50 for i in range(2)]
    generation.continue_ids(random_model("llama", len(tokenizer)), tokenizer, prompts, Decoding(max_new_tokens=2))
    # 190 of 3 tokens and 2 of 100: three batches of 64 rows, two of them all short; in one batch they would be 192 of 100
    assert read == [64 * 3, 64 * 3, 64 * 100]


class Held:
    """Stands for the tensors of a failed batch."""


def test_an_out_of_memory_of_a_foreign_class_halves_too_and_the_failed_batch_is_free_by_then(tokenizer, monkeypatch):
    import base_model.generate
    from eval import generation
    from eval.generation import Decoding

    monkeypatch.setattr(base_model.generate, "_own_tensors", lambda model: "unknown here")
    model = random_model("llama", len(tokenizer))
    prompts = [[1, 10 + i] for i in range(7)]
    expected = generation.continue_ids(model, tokenizer, prompts, Decoding(max_new_tokens=6))
    real, rows, held = model.generate, [], []

    def limited(*args, input_ids, **kwargs):
        batch = Held()
        held.append(weakref.ref(batch))
        rows.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model, "generate", limited)
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[-1]() is None))
    assert generation.continue_ids(model, tokenizer, prompts, Decoding(max_new_tokens=6)) == expected
    assert rows[:2] == [7, 3] and set(rows[2:]) == {1} and freed == [True, True]
