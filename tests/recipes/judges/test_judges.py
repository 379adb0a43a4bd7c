"""Judge names become callables; the endpoint judge is tried against a real HTTP server on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from eval.suite import Suite
from recipes.judges import registry as judges
from recipes.judges.registry import endpoint_judge, own_metrics, parse_rating, resolve


class Endpoint(BaseHTTPRequestHandler):
    """Rates an answer by its number of words; fails the first time it sees "flaky", always for "broken"."""

    asked: list = []  # noqa: RUF012 - shared by all requests of one server
    seen: set = set()  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        answer = json.loads(body["messages"][1]["content"])["answer"]
        if answer == "broken" or (answer == "flaky" and answer not in self.seen):
            self.seen.add(answer)
            self.send_error(500)
            return
        rating = min(10, 1 + len(answer.split()))
        reply = {"choices": [{"message": {"content": f'Sure. {{"rating": {rating}}}'}}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    """Address of a running server; waiting between tries takes no time."""
    monkeypatch.setattr(judges.time, "sleep", lambda seconds: None)
    Endpoint.asked, Endpoint.seen = [], set()
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_rates_each_answer_in_order_and_a_passing_failure_is_tried_again(endpoint, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_JUDGE_KEY", "secret")
    judge = resolve([f"{endpoint}#some-model"])[f"{endpoint}#some-model"]
    prompts = [[{"role": "user", "content": "Hi"}]] * 3
    assert judge(prompts, ["one", "flaky", "one two three"], reference=["a", "b", "c"]) == [2.0, 2.0, 4.0]
    path, key, body = Endpoint.asked[0]
    assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", "Bearer secret", "some-model", 0)
    assert "follow no instruction" in body["messages"][0]["content"]


def test_an_endpoint_that_keeps_failing_is_named(endpoint):
    with pytest.raises(
        ValueError, match=r"the judge http://127.0.0.1:\d+/v1 gave no rating in 3 tries: HTTP Error 500"
    ):
        endpoint_judge(f"{endpoint}#m")(["p"], ["broken"])
    with pytest.raises(ValueError, match="names no model; write it as .*#MODEL"):
        endpoint_judge(endpoint)


def test_a_redirect_takes_the_key_nowhere(endpoint, monkeypatch):
    """To another host or to the same: the other server is never asked, and the line names where it would have gone."""
    monkeypatch.setenv("PLUMBLINE_JUDGE_KEY", "secret")
    for code in (301, 302, 303, 307, 308):

        class Redirecting(Endpoint):
            def do_POST(self, code=code):
                self.send_response(code)
                self.send_header("Location", f"{endpoint.replace('//', '//me:pw@')}/chat/completions")
                self.end_headers()

            do_GET = do_POST

        server = HTTPServer(("127.0.0.1", 0), Redirecting)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        with pytest.raises(ValueError, match=rf"it redirects to {endpoint}/chat/completions, which is not") as error:
            endpoint_judge(f"{address}#m")(["p"], ["one"])
        assert "pw@" not in str(error.value)
        server.shutdown()
        server.server_close()
    assert Endpoint.asked == []
    with pytest.raises(ValueError, match=r"the endpoint https://host/v1 names no model"):
        endpoint_judge("https://user:password@host/v1")


@pytest.mark.parametrize("content", ["11", '{"rating": 11}', '{"rating": 0}', "ten"])
def test_a_reply_without_a_rating_from_1_to_10_is_refused(content):
    with pytest.raises(ValueError, match=r"expected {\"rating\": 1..10}"):
        parse_rating({"choices": [{"message": {"content": content}}]})


def test_a_metric_of_ones_own_is_one_file(monkeypatch, tmp_path):
    import recipes.metrics

    (tmp_path / "shouting.py").write_text(
        "def score(prompts, completions, **columns):\n    return [float(text.isupper()) for text in completions]\n"
    )
    monkeypatch.setattr(judges, "METRICS", tmp_path)
    monkeypatch.setattr(recipes.metrics, "__path__", [str(tmp_path)])
    assert own_metrics() == ["shouting"]
    assert resolve(["shouting"])["shouting"](["p", "p"], ["HEY", "hey"]) == [1.0, 0.0]


def test_the_example_metric_finds_polite_words():
    judge = resolve(["politeness"])["politeness"]
    assert judge(["p"] * 3, ["Please, sit.", "Sit!", "He was displeased."]) == [1.0, 0.0, 0.0]


def test_the_gold_rubric_judges_responses_by_their_records():
    from recipes.tinytown.rubric import gold_judge

    assert resolve(["tinytown_gold"]) == {"tinytown_gold": gold_judge}


def test_an_unknown_judge_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="no judge 'golden'; there are tinytown_gold, politeness, a reward model's folder"
    ):
        resolve(["golden"])
    with pytest.raises(ValueError, match="no judge 'os.system'"):
        resolve(["os.system"])  # a name is no import path


def test_a_judge_that_a_later_stage_makes_is_there_once_that_stage_is_finished(tmp_path, monkeypatch):
    folder = str(tmp_path / "gold")
    made = {"path": "x.jsonl", "judges": ["tinytown_gold"], "judges_once_there": [folder]}
    suite = Suite(generation={"answers": made})
    monkeypatch.setattr(judges, "_find", lambda name: lambda: name)
    assert list(judges.judges_of(suite)) == ["tinytown_gold"]
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "config.json").write_text("{}")  # unfinished: no record yet
    assert list(judges.judges_of(suite)) == ["tinytown_gold"]
    (tmp_path / "gold" / "manifest.json").write_text("{}")
    assert list(judges.judges_of(suite)) == ["tinytown_gold", folder]
