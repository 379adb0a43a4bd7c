import json
from collections import Counter

import pytest

from base_model.documents import BadRows, Source
from reward.preferences import (
    CONTRADICTED,
    DIFFERENT_PROMPTS,
    EMPTY,
    IDENTICAL,
    IN_BOTH_SPLITS,
    PAIRS,
    REPEATED,
    TIED,
    UNREADABLE,
    DifferentPrompts,
    check_pairs,
    pairs_of,
    parse_transcript,
    prompt_key,
    read_preferences,
    split_by_prompt,
    to_trl,
    without_heldout,
    write_preferences,
)

HELLO = [{"role": "user", "content": "Hello"}]


def says(*texts):
    return [{"role": "assistant", "content": text} for text in texts]


def pair(prompt="p", chosen="good", rejected="bad", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def pairs(fields):
    return pairs_of(fields, Counter())


def test_strings_and_messages_give_the_same_shape_and_kept_columns_stay():
    assert pairs(pair(kind="chat", other=1)) == [pair(kind="chat")]
    row = {"prompt": HELLO, "chosen": says("good"), "rejected": says("bad"), "record": "{}"}
    assert pairs(row) == [pair(HELLO, record="{}")]


def test_an_hh_transcript_parts_at_its_last_answer():
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Who?\n\nAssistant:"
    (found,) = pairs({"chosen": start + " Me.", "rejected": start + " You.\nAnd I."})
    assert [m["role"] for m in found["prompt"]] == ["user", "assistant", "user"]
    assert (found["prompt"][2]["content"], found["chosen"], found["rejected"]) == ("Who?", "Me.", "You.\nAnd I.")


def test_whole_conversations_of_messages_part_at_their_last_answer():
    assert pairs({"chosen": HELLO + says("good"), "rejected": HELLO + says("bad")}) == [pair(HELLO)]


def test_a_prompt_as_text_beside_whole_conversations_is_said_by_them():
    """UltraFeedback's form: score_chosen 8, score_rejected 6.5."""
    row = {"chosen": HELLO + says("good"), "rejected": HELLO + says("bad"), "score_chosen": 8, "score_rejected": 6.5}
    assert pairs({"prompt": "Hello", "prompt_id": "x", "messages": HELLO + says("good"), **row}) == [
        pair(HELLO, margin=1.5)
    ]


def test_conversations_that_part_earlier_are_refused():
    with pytest.raises(DifferentPrompts, match="part before their last answer"):
        pairs({"chosen": "\n\nHuman: A\n\nAssistant: x", "rejected": "\n\nHuman: B\n\nAssistant: y"})


def test_a_ranked_list_of_4_gives_the_6_pairs_it_implies():
    found = pairs({"prompt": "p", "ranked": ["a", "b", "c", "d"]})
    assert [p["chosen"] + p["rejected"] for p in found] == ["ab", "ac", "ad", "bc", "bd", "cd"]


def test_rated_answers_give_margins_and_no_pair_for_equal_ratings():
    counts = Counter()
    found = pairs_of({"prompt": "p", "responses": ["a", "b", "c"], "ratings": [2, 5, 2]}, counts)
    assert [(p["chosen"], p["rejected"], p["margin"]) for p in found] == [("b", "a", 3.0), ("b", "c", 3.0)]
    assert counts[TIED] == 1


def test_a_rated_pairs_margin_is_the_difference_and_a_tie_is_no_pair():
    assert pairs(pair(chosen_rating=9, rejected_rating=6.5))[0]["margin"] == 2.5
    assert pairs(pair(score_chosen=9, score_rejected=8))[0]["margin"] == 1.0
    counts = Counter()
    assert pairs_of(pair(chosen_rating=3, rejected_rating=3), counts) == [] and counts[TIED] == 1
    assert pairs(pair(margin=0))[0]["margin"] == 0.0  # a stated margin is a number like any other


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "p", "chosen": "a"}, "missing field 'rejected'; the row has: prompt, chosen"),
        (pair(chosen=3), r"chosen must be text or a list of \{role, content\} messages, got '3'"),
        (
            pair(HELLO, chosen=says("a", "b")),
            "chosen must be one assistant message after the prompt, got: assistant, assistant",
        ),
        (pair([{"role": "user"}]), "field 'prompt': message 1 must be"),
        ({"chosen": "Hi", "rejected": "Ho"}, "a transcript starts with"),
        ({"chosen": HELLO, "rejected": HELLO}, "must be a whole conversation that ends with the assistant's answer"),
        (
            pair(chosen_rating=1, rejected_rating=2),
            "chosen_rating 1 is below rejected_rating 2: chosen and rejected are swapped",
        ),
        ({"prompt": "p", "ranked": ["a"]}, "ranked holds 1 answer; a preference needs at least 2"),
        ({"prompt": "p", "responses": ["a", "b"], "ratings": [1]}, "2 responses but 1 ratings"),
    ],
)
def test_a_row_in_no_form_says_what_is_wrong_with_which_field(row, said):
    with pytest.raises(ValueError, match=said):
        pairs(row)


def test_a_transcript_may_hold_empty_turns_and_blank_lines():
    messages = parse_transcript("\n\nHuman: a\n\nb\n\nAssistant:\n\nHuman: c\n\nAssistant: d")
    assert [m["content"] for m in messages] == ["a\n\nb", "", "c", "d"]


def test_unsound_pairs_are_left_out_and_counted():
    counts = Counter()
    kept = check_pairs(
        [
            pair(),
            pair(),  # repeated
            pair(rejected=" good "),  # identical but for space
            pair(chosen="  "),  # empty
            pair(chosen="bad", rejected="good"),  # contradicts the first
            pair(HELLO),
        ],
        counts,
    )
    assert kept == [pair(), pair(chosen="bad", rejected="good"), pair(HELLO)]
    assert counts == {PAIRS: 3, REPEATED: 1, IDENTICAL: 1, EMPTY: 1, CONTRADICTED: 1}


def test_a_prompt_is_on_one_side_and_stays_there_as_the_set_grows():
    many = [pair(f"prompt {i // 3}", chosen=f"{i}") for i in range(3000)]
    train, heldout = split_by_prompt(many, 0.2, seed=7)
    assert not {p["prompt"] for p in train} & {p["prompt"] for p in heldout}
    # 1,000 prompts at 0.2: 200 +- 3 standard deviations of 12.6
    assert abs(len({p["prompt"] for p in heldout}) - 200) < 38
    assert split_by_prompt(many[:300], 0.2, seed=7)[1] == heldout[: len([p for p in many[:300] if p in heldout])]
    assert split_by_prompt(many, 0.2, seed=8)[1] != heldout
    assert split_by_prompt(many, 0.0, seed=7) == (many, [])
    with pytest.raises(ValueError, match=r"heldout_fraction must be in \[0, 1\), got 1"):
        split_by_prompt(many, 1, seed=7)


def test_training_pairs_with_a_held_out_prompt_are_left_out_and_counted():
    counts = Counter()
    train = [pair("a"), pair("b"), pair("b", chosen="other")]
    assert without_heldout(train, [pair("b", chosen="third")], counts) == [pair("a")]
    assert counts[IN_BOTH_SPLITS] == 2


def test_prompts_are_the_same_by_role_and_content_alone():
    assert prompt_key(HELLO) == prompt_key([{"content": "Hello", "role": "user", "id": 3}])
    assert prompt_key(HELLO) != prompt_key([{"role": "system", "content": "Hello"}])


def test_what_is_written_is_trls_form_and_reads_back(tmp_path):
    made = [pair(HELLO, kind="chat"), pair("plain", margin=1.5)]
    write_preferences(tmp_path / "train.jsonl", made)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows[0] == {"prompt": HELLO, "chosen": says("good"), "rejected": says("bad"), "kind": "chat"}
    assert [p for row in rows for p in pairs(row)] == made
    assert to_trl(made[1]) is made[1]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_source_gives_its_sound_pairs_and_counts_the_rest(tmp_path):
    turn = "\n\nHuman: {}\n\nAssistant: {}"
    rows = [
        {"chosen": turn.format("a", "x"), "rejected": turn.format("a", "y")},
        {"chosen": turn.format("a", "x"), "rejected": turn.format("b", "y")},
        pair(),
        pair(rejected="good"),
    ]
    counts = Counter()
    found = read_preferences(write_rows(tmp_path / "p.jsonl", rows), counts=counts)
    assert [p["chosen"] for p in found] == ["x", "good"]
    assert +counts == {PAIRS: 2, DIFFERENT_PROMPTS: 1, IDENTICAL: 1}


def test_a_row_in_no_form_is_named_by_file_and_line_or_skipped_and_counted(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [pair(), {"prompt": "p", "chosen": "a"}, {"prompt": "p", "chosen": "a"}])
    with pytest.raises(BadRows, match=r"p.jsonl:2: missing field 'rejected'.*; 1 more bad row"):
        read_preferences(path)
    counts = Counter()
    assert read_preferences(Source(path, on_bad_rows="skip"), counts=counts) == [pair()]
    assert counts[UNREADABLE] == 2


def test_rows_of_several_files_have_their_files_name_for_a_kind(tmp_path):
    write_rows(tmp_path / "chat.jsonl", [pair("a"), pair("b", kind="story")])
    write_rows(tmp_path / "work.train.jsonl", [pair("c")])
    kinds = [p["kind"] for p in read_preferences(str(tmp_path / "*.jsonl"))]
    assert kinds == ["chat", "story", "work"]


def test_columns_by_other_names_are_mapped(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"question": "p", "good": "good", "bad": "bad"}])
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert read_preferences(Source(path, columns=columns)) == [pair()]


def test_a_source_without_a_usable_pair_says_why(tmp_path):
    with pytest.raises(ValueError, match="holds no pair to learn from: {'identical answers': 1}"):
        read_preferences(write_rows(tmp_path / "p.jsonl", [pair(rejected="good")]))


def test_real_hh_transcripts_give_pairs_with_one_prompt(data_folder):
    counts = Counter()
    found = read_preferences(str(data_folder / "hh_rlhf" / "helpful-base.jsonl.gz"), counts=counts)
    assert len(found) == counts[PAIRS]
    assert sum(n for name, n in counts.items() if name != CONTRADICTED) == 2354  # every row is accounted for
    assert all(p["prompt"][-1]["role"] == "user" and "\n\nHuman:" not in p["chosen"] for p in found)


def test_trl_takes_the_written_form_as_a_conversation(tmp_path):
    from trl.data_utils import is_conversational

    assert is_conversational(to_trl(pair(HELLO))) and not is_conversational(to_trl(pair()))


NAN, INFINITY = float("nan"), float("inf")
LIST = json.dumps(["A pet.", "No idea."])
MESSAGES = json.dumps([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (pair(margin=NAN), "margin is NaN; it must be a finite number"),
        (pair(margin=INFINITY), "margin is infinite"),
        (pair(margin=[1]), r"margin must be a number, found '\[1\]'"),
        (pair(margin=True), "margin must be a number, found 'True'"),
        (pair(margin=10**400), "margin must be a number, found '1000"),
        (pair(chosen_rating="N/A", rejected_rating=3), "chosen_rating must be a number, found 'N/A'"),
        (pair(score_chosen=1, score_rejected=NAN), "score_rejected is NaN"),
        ({"prompt": "p", "responses": ["a", "b", "c"], "ratings": [5, NAN, 1]}, "rating 2 is NaN"),
        (
            {"prompt": "p", "responses": ["a", "b", "c"], "ratings": [5, 4, None]},
            "rating 3 must be a number, found null",
        ),
        (
            {"prompt": "p", "responses": ["a", "b"], "ratings": "[5, 1]"},
            "ratings must be a list of numbers, found text",
        ),
        ({"prompt": "p", "ranked": LIST}, "ranked must be a list of answers, found text .*a CSV file holds no lists"),
        (pair(prompt=" "), "field 'prompt' is empty"),
        (pair(prompt=[]), "field 'prompt' is empty"),
        (pair(prompt=MESSAGES), "field 'prompt' must be text or a list of messages, found such a list as text"),
        (pair(chosen=MESSAGES.replace('"', "'")), "field 'chosen' must be text or a list of messages, found such"),
    ],
)
def test_what_is_no_rating_no_list_and_no_prompt_is_a_bad_row_that_names_its_field(tmp_path, row, said):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (pair("q"), row)))
    with pytest.raises(BadRows, match=rf"pairs.jsonl:2: {said}"):
        read_preferences(Source(str(path)))
    counts = Counter()
    assert read_preferences(Source(str(path), on_bad_rows="skip"), counts=counts) == [pair("q")]
    assert counts[UNREADABLE] == 1


def test_an_empty_cell_of_a_csv_file_is_no_margin(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,chosen,rejected,margin\np,good,bad,\nq,good,bad,1.5\n")
    assert read_preferences(str(path)) == [pair(), pair("q", margin=1.5)]
