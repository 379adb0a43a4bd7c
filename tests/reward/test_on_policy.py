import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from reward.on_policy import (
    Question,
    Verdict,
    ask_about,
    ask_about_fit,
    by_score,
    judge_policy,
    sample_answers,
    to_preference,
)

PROMPT = [{"role": "user", "content": "Say when it rains."}]


@pytest.fixture
def policy(chat_checkpoint):
    return AutoModelForCausalLM.from_pretrained(chat_checkpoint), AutoTokenizer.from_pretrained(chat_checkpoint)


def test_each_prompt_gets_its_own_answers_fixed_by_the_seed(policy):
    prompts = [PROMPT, "the old sailor"]
    options = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0}
    made = sample_answers(*policy, prompts, 3, seed=1, **options)
    assert [len(answers) for answers in made] == [3, 3]
    assert all(set(answer) == {"text", "stopped"} for answers in made for answer in answers)
    assert len({answer["text"] for answer in made[0]}) > 1
    assert made == sample_answers(*policy, prompts, 3, seed=1, **options)
    assert made != sample_answers(*policy, prompts, 3, seed=2, **options)


def test_questions_are_about_different_answers_with_the_sides_drawn():
    row = {"prompt": "p", "kind": "chat", "record": "{}", "other": 1}
    questions = ask_about(row, ["a", "b", "a", "", "c"], 10, seed=1)
    assert sorted("".join(sorted([q.a, q.b])) for q in questions) == ["ab", "ac", "bc"]
    assert all(q.columns == {"kind": "chat", "record": "{}"} for q in questions)
    assert questions == ask_about(row, ["a", "b", "a", "", "c"], 10, seed=1)
    firsts = [ask_about({"prompt": str(i)}, ["a", "b"], 1, seed=1)[0].a for i in range(200)]
    assert 70 < firsts.count("a") < 130  # 100 +- 4 standard deviations: no side is favoured
    assert len(ask_about(row, ["a", "b", "c", "d"], 2, seed=1)) == 2
    assert ask_about(row, ["a", "a"], 2, seed=1) == []


def test_whether_it_fits_is_asked_of_what_was_chosen_elsewhere():
    won = [("p", "a"), ("p", "a"), ("p", "aa"), ("q", "b"), ("r", "c"), ("s", "b")]
    pairs = [{"prompt": p, "chosen": answer, "rejected": "no", "kind": p, "other": 1} for p, answer in won]
    asked = [question for seed in range(200) for question in ask_about_fit(pairs, 2, seed)]
    own = {"p": {"a", "aa"}, "q": {"b"}, "r": {"c"}, "s": {"b"}}
    for question in asked:
        mine, stranger = (question.a, question.b) if question.a in own[question.prompt] else (question.b, question.a)
        assert mine in own[question.prompt] and stranger in {"a", "aa", "b", "c"} - own[question.prompt]
        assert question.columns == {"kind": question.prompt}
    firsts = sum(question.a in own[question.prompt] for question in asked)
    assert 0.4 < firsts / len(asked) < 0.6  # no side is favoured
    one_each = ask_about_fit(pairs, 1, seed=1)
    assert len({q.prompt for q in one_each}) == len(one_each) <= 4
    assert one_each == ask_about_fit(pairs, 1, seed=1)
    assert ask_about_fit(pairs[3:4], 2, seed=1) == []  # nobody else


def test_a_score_decides_by_its_difference_and_each_answer_is_scored_once():
    calls = []

    def judge(prompts, completions, *, kind, **columns):
        calls.append(list(zip(prompts, completions, kind, strict=True)))
        return [float(len(completion)) for completion in completions]

    questions = [
        Question("p", "long", "a", {"kind": "x"}),
        Question("p", "a", "long", {"kind": "x"}),
        Question("q", "b", "a", {"kind": "y"}),
    ]
    assert by_score(judge)(questions) == [Verdict(0, 3.0), Verdict(1, 3.0), Verdict(None, 0.0)]
    assert calls == [[("p", "long", "x"), ("p", "a", "x"), ("q", "b", "y"), ("q", "a", "y")]]


def test_a_verdict_makes_a_pair_of_a_question_and_a_tie_makes_none():
    question = Question(PROMPT, "a", "b", {"kind": "chat"})
    assert to_preference(question, Verdict(1)) == {"prompt": PROMPT, "chosen": "b", "rejected": "a", "kind": "chat"}
    assert to_preference(question, Verdict(0, 2.0))["margin"] == 2.0
    assert to_preference(question, Verdict(None, 0.0)) is None


def test_a_policys_answers_are_judged_with_the_prompts_columns():
    class Reward:
        std = 1.0

        def score(self, prompts, completions, **columns):
            return [float(c) for c in completions]

    def gold(prompts, completions, *, sign, **columns):
        return [s * float(c) for s, c in zip(sign, completions, strict=True)]

    report = judge_policy(
        Reward(), gold, [{"prompt": "p", "sign": 1}, {"prompt": "q", "sign": -1}], [["1", "2", "3"], ["1", "2", "3"]]
    )
    assert report["agreement"]["value"] == 0.5  # right on all pairs of p, wrong on all of q
