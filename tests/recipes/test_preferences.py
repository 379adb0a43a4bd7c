import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from base_model.chat import set_chat_template
from recipes import preferences
from recipes.judges.person import by_person, printable
from recipes.preferences import main
from recipes.run.record import read_manifest
from reward.on_policy import Question, Verdict
from tests.conftest import write_checkpoint


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tokenizer):
    import copy

    return write_checkpoint(tmp_path_factory.mktemp("policy") / "lora_sft", set_chat_template(copy.deepcopy(tokenizer)))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    record = json.dumps({"kind": "tell", "expect": "answer", "must": [["baker"]], "words": [1, 40]})
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"Tell story {i}."}], "kind": "tell", "record": record}
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def command(policy, prompts, tmp_path):
    """command(out, **changes): the arguments of a small run."""

    def make(out="preferences", **changes):
        settings = {
            "output_dir": tmp_path / out,
            "model": policy,
            "data": prompts,
            "judge": "tinytown_annotators",
            "answers": 3,
            "pairs_per_prompt": 2,
            "max_new_tokens": 8,
            "prompts_at_once": 5,
            "heldout_fraction": 0.3,
        } | changes
        return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]

    return make


def pairs(folder):
    return [
        json.loads(line)
        for split in ("train", "heldout")
        for line in (folder / f"{split}.jsonl").read_text().splitlines()
    ]


def test_a_run_writes_both_splits_by_prompt_with_their_columns(command, tmp_path):
    folder = main(command())
    manifest = read_manifest(folder)
    assert manifest["notes"]["counts"]["answers"] == 36
    rows = pairs(folder)
    assert manifest["notes"]["pairs"]["train"] + manifest["notes"]["pairs"]["heldout"] == len(rows) > 15
    assert set(rows[0]) == {"prompt", "chosen", "rejected", "kind", "record"}  # no gold score, no probability
    split = {
        name: {json.dumps(json.loads(line)["prompt"]) for line in (folder / f"{name}.jsonl").read_text().splitlines()}
        for name in ("train", "heldout")
    }
    assert split["heldout"] and not split["train"] & split["heldout"]
    assert 0.5 <= manifest["notes"]["bayes_accuracy"] <= 1
    assert all(check["passed"] for check in manifest["checks"])


def test_pairs_on_fit_are_a_file_of_their_own_without_a_held_out_prompt(command, tmp_path):
    plain, folder = main(command("plain")), main(command("fit", fit_pairs_per_prompt=2))
    assert not (plain / "train_fit.jsonl").exists()
    assert pairs(folder) == pairs(plain)  # the others stay as they were
    fit = [json.loads(line) for line in (folder / "train_fit.jsonl").read_text().splitlines()]
    assert len(fit) == read_manifest(folder)["notes"]["fit_pairs"] > 0
    train, heldout = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "heldout")
    )
    chosen = {json.dumps([pair["prompt"], pair["chosen"]]) for pair in train}
    for pair in fit:
        prompt = json.dumps(pair["prompt"])
        assert prompt not in {json.dumps(other["prompt"]) for other in heldout}
        assert len({json.dumps([pair["prompt"], pair[side]]) for side in ("chosen", "rejected")} & chosen) == 1


def test_the_same_seed_gives_the_same_pairs_and_another_others(command):
    first, again, other = main(command("a")), main(command("b")), main(command("c", seed=2))
    assert pairs(first) == pairs(again) != pairs(other)


@pytest.mark.parametrize("journal, keep", [("answers.jsonl", 6), ("verdicts.jsonl", 1)])
def test_a_run_stopped_anywhere_goes_on_to_the_same_pairs(command, tmp_path, journal, keep, monkeypatch):
    """The stop is a crash between two batches, with half a line of the next one written."""
    from reward import journal as module

    whole = pairs(main(command("whole")))
    append = module.Journal.append

    def crash(self, entries):
        if self.path.name == journal and len(self.entries) + len(entries) > keep:
            with open(self.path, "a") as file:
                file.write(json.dumps(entries[0]) + "\n" + '{"cut')
            raise RuntimeError("power cut")
        append(self, entries)

    monkeypatch.setattr(module.Journal, "append", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        main(command("cut"))
    monkeypatch.setattr(module.Journal, "append", append)
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert pairs(main([*command("cut"), "--resume"])) == whole


def test_a_judge_that_is_nowhere_is_refused_before_an_answer_is_sampled(command, monkeypatch):
    from reward import on_policy

    monkeypatch.setattr(on_policy, "sample_answers", None)
    with pytest.raises(ValueError, match="no judge 'nobody'; there are tinytown_gold"):
        main(command("x", judge="nobody"))


def test_resuming_a_finished_phase_samples_nothing_again(command, tmp_path, monkeypatch):
    from reward import on_policy

    monkeypatch.setattr(preferences, "check_judge", lambda name: None)
    with pytest.raises(ValueError, match="no judge 'nobody'; there are tinytown_gold"):
        main(command("x", judge="nobody"))
    answers = (tmp_path / "x" / "checkpoints" / "answers.jsonl").read_text()
    assert len(answers.splitlines()) == 12
    monkeypatch.setattr(on_policy, "sample_answers", None)
    with pytest.raises(ValueError, match="no judge 'nobody'"):
        main([*command("x", judge="nobody"), "--resume"])


def test_each_batch_of_prompts_draws_numbers_of_its_own(command, monkeypatch):
    from reward import on_policy

    sample, seeds = on_policy.sample_answers, []
    monkeypatch.setattr(
        on_policy, "sample_answers", lambda *a, seed, **o: seeds.append(seed) or sample(*a, seed=seed, **o)
    )
    main(command())
    assert len(seeds) == len(set(seeds)) == 3  # 12 prompts, 5 at once


def test_gold_orders_by_its_score_and_leaves_the_margin(command):
    from recipes.tinytown.rubric import gold_judge

    folder = main(command(judge="tinytown_gold"))
    for row in pairs(folder):
        good, bad = gold_judge(["", ""], [row["chosen"], row["rejected"]], record=[row["record"]] * 2)
        assert good > bad and row["margin"] == pytest.approx(good - bad)
    counts = read_manifest(folder)["notes"]["counts"]
    assert counts["ties"] + counts["pairs"] + counts.get("repeated", 0) == counts["questions"]


def test_a_reward_model_orders_by_its_score_and_is_a_parent(command, policy, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from reward.model import RewardModel

    reward_folder = tmp_path / "reward_model"
    AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1).save_pretrained(reward_folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(reward_folder)
    folder = main(command(judge=reward_folder))
    reward = RewardModel.load(reward_folder)
    for row in pairs(folder)[:5]:
        good, bad = reward.score([row["prompt"]] * 2, [row["chosen"][0]["content"], row["rejected"][0]["content"]])
        assert good - bad == pytest.approx(row["margin"], abs=1e-5) and good > bad
    assert [parent["path"] for parent in read_manifest(folder)["parents"]] == [str(policy), str(reward_folder)]


@pytest.fixture
def endpoint():
    """A local OpenAI-compatible server that rates an answer by its length, from 1 to 10."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.loads(body["messages"][-1]["content"])["answer"]
            asked.append(answer)
            reply = {"choices": [{"message": {"content": json.dumps({"rating": min(10, 1 + len(answer) % 10)})}}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1#judge", asked
    server.shutdown()


def test_an_openai_compatible_endpoint_orders_by_its_rating(command, endpoint):
    address, asked = endpoint
    rows = pairs(main(command(judge=address, prompts=4)))
    assert rows and asked

    def rating(side):
        return min(10, 1 + len(side[0]["content"]) % 10)

    assert all(row["margin"] == rating(row["chosen"]) - rating(row["rejected"]) > 0 for row in rows)


def test_a_person_in_the_terminal_is_asked_may_stop_and_goes_on(command, tmp_path):
    """On a real terminal (a pty): two answers, a stop, then --resume asks the third question first."""
    arguments = command("person", judge="person", prompts=2)
    environment = {**os.environ, "PYTHONPATH": "."}

    def at_terminal(typed, *more):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "recipes.preferences", *arguments, *more]
        pipes = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, **pipes, env=environment, text=True)
        os.write(ours, typed.encode())
        out, err = process.communicate(timeout=120)
        os.close(ours), os.close(theirs)
        return process.returncode, out, err

    code, out, err = at_terminal("1\n?\n2\nq\n")
    assert code == 1 and "stopped after 2 of 4 questions; the same command with --resume goes on" in err
    assert "--- 1 of 4 ---" in out and "user: Tell story" in out and "[1] " in out and "[2] " in out
    assert out.count("better: 1, 2, = (as good), q (stop) > ") == 4  # the key that means nothing is asked again
    code, out, err = at_terminal("=\n1\n", "--resume")
    assert code == 0, err
    assert "--- 3 of 4 ---" in out and "--- 2 of 4 ---" not in out
    assert len(pairs(tmp_path / "person")) == 3
    assert read_manifest(tmp_path / "person")["notes"]["counts"]["ties"] == 1


def test_the_end_of_the_input_is_a_stop(tmp_path):
    import io

    screen = io.StringIO()
    ask = by_person(2, source=io.StringIO("2\n"), screen=screen)
    assert ask([Question("p", "a", "b", {})]) == [Verdict(1)]
    with pytest.raises(SystemExit, match="stopped after 1 of 2 questions"):
        ask([Question("p", "a", "b", {})])


def test_an_answer_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\rc\u202ed\n\te") == "a\ufffd[2Jb\ufffdc\ufffdd\n\te"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"answers": 1}, "answers must be at least 2 to make a pair, got 1"),
        ({"pairs_per_prompt": 0}, "pairs_per_prompt must be above 0, got 0"),
        ({"heldout_fraction": 1}, r"heldout_fraction must be in \[0, 1\), got 1"),
    ],
)
def test_impossible_settings_are_refused(command, changes, said):
    with pytest.raises(ValueError, match=said):
        main(command(**changes))
