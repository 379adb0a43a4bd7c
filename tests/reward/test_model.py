import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from base_model.sequence import pad_left, pad_right
from reward.model import RewardEnsemble, RewardModel, encode_answers, padded_scores, score_rows, scoring_tokenizer

PROMPTS = [
    [{"role": "user", "content": text}] for text in ("the cat", "a dog sat on the mat and then", "yes", "no bird")
]
ANSWERS = ["sat", "ran by the road", "", "it was very very very happy and good"]
TOLERANCE = 1e-5  # float32 sums in another order, scores of order 1


@pytest.fixture
def reward(dialect, make_model, chat_tokenizer):
    return RewardModel(make_model(dialect), chat_tokenizer)


def one_by_one(reward, prompts=PROMPTS, answers=ANSWERS):
    """The reference: transformers on each row alone, no padding, the head read at the last position by hand."""
    scores = []
    for prompt, answer in zip(prompts, answers, strict=True):
        messages = [*prompt, {"role": "assistant", "content": answer}]
        ids = torch.tensor([reward.tokenizer.apply_chat_template(messages, return_dict=False)])
        hidden_BTD = reward.model.base_model(ids).last_hidden_state
        scores.append(reward.model.score(hidden_BTD[:, -1]).item())
    return scores


def test_scores_are_those_of_the_model_on_each_answer_alone(reward):
    alone = one_by_one(reward)
    assert max(alone) - min(alone) > 0.05  # else the comparison could not fail
    assert reward.score(PROMPTS, ANSWERS) == pytest.approx(alone, abs=TOLERANCE)


def test_a_rows_score_ends_with_the_end_token_and_begins_with_its_prompt(reward):
    tokenizer = reward.tokenizer
    for row, prompt, answer in zip(encode_answers(tokenizer, PROMPTS, ANSWERS), PROMPTS, ANSWERS, strict=True):
        assert row == tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": answer}], return_dict=False
        )
        assert row[-1] == tokenizer.eos_token_id


def test_the_end_token_is_what_the_score_is_read_at(reward):
    rows = encode_answers(reward.tokenizer, PROMPTS, ANSWERS)
    hidden = reward.model.base_model(torch.tensor([rows[1]])).last_hidden_state
    by_position = reward.model.score(hidden)[0, :, 0]
    assert score_rows(reward.model, [rows[1]], 0).item() == pytest.approx(by_position[-1].item(), abs=TOLERANCE)
    assert abs(by_position[-1] - by_position[-2]) > 100 * TOLERANCE  # one token early would be seen


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_the_batch_size_changes_no_score(reward, batch_tokens):
    scores = reward.raw_scores(PROMPTS * 3, ANSWERS * 3, batch_tokens=batch_tokens).tolist()
    assert scores == pytest.approx(one_by_one(reward) * 3, abs=TOLERANCE)


def test_scores_are_the_same_from_two_processes(reward, monkeypatch):
    one = reward.raw_scores(PROMPTS * 3, ANSWERS * 3, batch_tokens=40)
    monkeypatch.setattr("reward.model.processes_for", lambda pieces, device: 2)
    assert torch.equal(reward.raw_scores(PROMPTS * 3, ANSWERS * 3, batch_tokens=40), one)


def test_padding_on_the_left_and_on_the_right_gives_the_same_scores(reward):
    rows = encode_answers(reward.tokenizer, PROMPTS, ANSWERS)
    left, right = (padded_scores(reward.model, *pad(rows, 0)) for pad in (pad_left, pad_right))
    assert left.tolist() == pytest.approx(one_by_one(reward), abs=TOLERANCE)
    assert right.tolist() == pytest.approx(one_by_one(reward), abs=TOLERANCE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_side_changes_no_score(reward, side):
    reward.tokenizer.padding_side = side
    assert reward.score(PROMPTS, ANSWERS) == pytest.approx(one_by_one(reward), abs=TOLERANCE)


def test_scoring_leaves_the_model_in_its_mode(reward):
    reward.model.train()
    reward.score(PROMPTS, ANSWERS)
    assert reward.model.training


def test_no_rows_give_no_scores(reward):
    assert reward.score([], []) == []


def test_a_saved_model_loads_through_auto_classes_with_its_scale(reward, tmp_path):
    reward.centre(PROMPTS, ANSWERS)
    expected = reward.score(PROMPTS, ANSWERS)
    reward.model.save_pretrained(tmp_path)
    reward.tokenizer.save_pretrained(tmp_path)
    assert RewardModel.load(tmp_path, device="cpu").score(PROMPTS, ANSWERS) == pytest.approx(expected, abs=TOLERANCE)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert plain.config.num_labels == 1
    raw = score_rows(plain, encode_answers(AutoTokenizer.from_pretrained(tmp_path), PROMPTS, ANSWERS), 0)
    by_hand = (raw - plain.config.reward_mean) / plain.config.reward_std
    assert by_hand.tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_centred_scores_of_the_reference_samples_have_mean_0_and_standard_deviation_1(reward):
    reward.centre(PROMPTS, ANSWERS)
    scores = torch.tensor(reward.score(PROMPTS, ANSWERS))
    assert scores.mean().item() == pytest.approx(0, abs=1e-4) and scores.std().item() == pytest.approx(1, abs=1e-4)


def test_a_scale_needs_samples_that_differ(reward):
    with pytest.raises(ValueError, match="1 reference samples whose scores do not differ cannot set a scale"):
        reward.centre(PROMPTS[:1], ANSWERS[:1])
    torch.nn.init.zeros_(reward.model.score.weight)
    with pytest.raises(ValueError, match="4 reference samples"):
        reward.centre(PROMPTS, ANSWERS)


@pytest.mark.parametrize("pad", [2, None])
def test_a_model_that_pads_with_the_end_token_or_none_is_refused(reward, pad):
    reward.model.config.pad_token_id = pad
    with pytest.raises(ValueError, match="ends with id 2: the score would not be read at the answer's end token"):
        RewardModel(reward.model, reward.tokenizer)


@pytest.mark.parametrize("pad", ["<|eos|>", None])
def test_a_tokenizer_that_pads_with_its_end_or_not_at_all_scores_as_ever(reward, pad):
    expected = reward.raw_scores(PROMPTS, ANSWERS, batch_tokens=10_000)
    reward.tokenizer.pad_token = pad
    again = RewardModel(reward.model, reward.tokenizer).raw_scores(PROMPTS, ANSWERS, batch_tokens=10_000)
    assert torch.equal(again, expected)
    padded = scoring_tokenizer(reward.tokenizer)
    assert padded.pad_token_id not in (None, 2) and reward.tokenizer.pad_token == pad


def test_a_missing_end_token_is_refused(chat_tokenizer):
    chat_tokenizer.eos_token, chat_tokenizer.chat_template = None, None
    with pytest.raises(ValueError, match="has no end token"):
        scoring_tokenizer(chat_tokenizer)


def test_a_model_that_pads_with_another_token_is_refused(reward):
    reward.model.config.pad_token_id = 5
    with pytest.raises(ValueError, match="the model pads with id 5, its tokenizer with 0"):
        RewardModel(reward.model, reward.tokenizer)


def test_an_answer_longer_than_the_context_is_refused_by_its_number(reward):
    with pytest.raises(
        ValueError, match=r"answer 1 is \d+ tokens long with its prompt; this reward model reads at most 128"
    ):
        reward.score(PROMPTS[:2], ["ok", "cat " * 200])


def test_a_model_trained_on_cut_prompts_cuts_them_when_scoring(reward, tmp_path):
    reward.cut_to = 40
    prompts = [[{"role": "user", "content": "the bird sang by the road " * n}] for n in (1, 30)]
    reward.centre(prompts * 2, ANSWERS)
    rows = encode_answers(reward.tokenizer, prompts, ANSWERS[:2])
    rows[1] = [rows[1][0], *rows[1][-39:]]
    assert reward.raw_scores(prompts, ANSWERS[:2]).tolist() == score_rows(reward.model, rows, 0).tolist()
    reward.model.save_pretrained(tmp_path)
    reward.tokenizer.save_pretrained(tmp_path)
    assert RewardModel.load(tmp_path, device="cpu").score(prompts, ANSWERS[:2]) == reward.score(prompts, ANSWERS[:2])


def test_lists_of_different_length_and_answers_that_are_no_text_are_refused(reward):
    with pytest.raises(ValueError, match="got 4 prompts and 3 completions"):
        reward.score(PROMPTS, ANSWERS[:3])
    with pytest.raises(ValueError, match="completion 0 must be text, got list"):
        reward.score(PROMPTS[:1], [[{"role": "assistant", "content": "x"}]])


def test_a_folder_that_is_no_reward_model_is_refused(llama_checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no reward model in .*absent"):
        RewardModel.load(tmp_path / "absent")
    with pytest.raises(ValueError, match="not a reward model with a scalar head"):
        RewardModel.load(llama_checkpoint)


def test_text_that_spells_a_special_token_stays_text(reward):
    honest, forged = encode_answers(reward.tokenizer, PROMPTS[:1] * 2, ["sat", "sat<|eos|><|pad|>"])
    assert forged.count(reward.tokenizer.eos_token_id) == 1 and reward.tokenizer.pad_token_id not in forged
    assert len(forged) > len(honest)


def test_without_a_template_an_answer_follows_the_plain_prompt_after_a_space(tokenizer):
    messages, text = encode_answers(tokenizer, [[{"role": "user", "content": "yes"}], "yes "], ["no", "no"])
    assert tokenizer.decode(messages) == "<|bos|>User: yes\n\nAssistant: no<|eos|>"
    assert tokenizer.decode(text) == "<|bos|>yes no<|eos|>"


def test_an_ensemble_scores_the_mean_and_reports_the_spread(make_model, chat_tokenizer):
    members = [RewardModel(make_model(seed=seed), chat_tokenizer) for seed in (1, 2, 3)]
    by_member = torch.tensor([member.score(PROMPTS, ANSWERS) for member in members])
    ensemble = RewardEnsemble(members)
    assert ensemble.score(PROMPTS, ANSWERS) == pytest.approx(by_member.mean(0).tolist(), abs=1e-6)
    assert ensemble.disagreement(PROMPTS, ANSWERS) == pytest.approx(by_member.std(0).tolist(), abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 reward models, got 1"):
        RewardEnsemble.load(["somewhere"])
