"""The llm labeller against a local server that is also slow, busy and talks nonsense."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.evaluation.labelling.chat_server import Reply, Server, completion, serve
from uvlm.cli import app
from uvlm.errors import ConfigError, SetupError
from uvlm.evaluation.labeller import DoubtingLabeller, get_labeller
from uvlm.evaluation.labelling.chat import Endpoint, NotNow
from uvlm.evaluation.labelling.llm import LlmLabeller, parse_answer
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

NAMES = ("Emphysema", "Cardiomegaly")


def reads_words(report: str) -> Reply:
    """A model that says present to every name in the text, and is in doubt at a question mark."""
    said = {
        name: ("uncertain" if f"{name}?" in report else "present") if name in report else "absent"
        for name in NAMES
    }
    return completion(json.dumps(said))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Server(reads_words)) as state:
        yield state


@pytest.fixture
def endpoint(server: Server) -> Endpoint:
    return Endpoint(
        server.url, "tiny", key="secret", price_in=1.0, price_out=2.0, attempts=3, pause_s=0.01
    )


def labeller_of(endpoint: Endpoint, tmp_path: Path) -> LlmLabeller:
    return LlmLabeller(NAMES, endpoint, tmp_path / "cache")


def test_answers_follow_the_reports_and_doubt_stays_doubt(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    labeller = labeller_of(endpoint, tmp_path)
    texts = ["Emphysema.", "Emphysema? Cardiomegaly.", "Normal.", ""]
    assert labeller.answers(texts).tolist() == [[1, 0], [-1, 1], [0, 0], [0, 0]]
    assert labeller.label(texts).tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]
    assert len(server.requests) == 3  # nothing is asked about an empty report, nothing twice
    assert isinstance(labeller, DoubtingLabeller)


def test_the_request_is_what_openai_compatible_endpoints_take(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    labeller_of(endpoint, tmp_path).answers(["Emphysema."])
    (request,), (headers,) = server.requests, server.headers
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["temperature"]) == ("tiny", 0)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert all(name in request["messages"][0]["content"] for name in NAMES)
    assert request["messages"][1]["content"] == "Emphysema."
    assert headers["Authorization"] == "Bearer secret"


def test_answers_are_kept_on_disk_and_cost_nothing_again(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    texts = ["Emphysema.", "Cardiomegaly?"]
    first = labeller_of(endpoint, tmp_path)
    answers = first.answers(texts)
    assert first.usage == {"requests": 2, "tokens_in": 200, "tokens_out": 40, "cost": 280e-6}
    again = labeller_of(endpoint, tmp_path)
    assert np.array_equal(again.answers(texts), answers)
    assert again.usage["requests"] == 0
    assert len(server.requests) == 2
    assert all(b"Cardiomegaly?" not in p.read_bytes() for p in tmp_path.rglob("*.json"))
    labeller_of(replace(endpoint, model="other"), tmp_path).answers(texts)
    assert len(server.requests) == 4


def test_a_damaged_cache_entry_is_asked_again(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    labeller_of(endpoint, tmp_path).answers(["Emphysema."])
    for damage in ("", "[]", '{"Emphysema": 7, "Cardiomegaly": 0}'):
        (entry,) = tmp_path.rglob("*.json")
        entry.write_text(damage)
        assert labeller_of(endpoint, tmp_path).answers(["Emphysema."]).tolist() == [[1, 0]]
    assert len(server.requests) == 4


NONSENSE = {
    "no json": completion("I think there is emphysema."),
    "a list": completion('["Emphysema"]'),
    "a missing key": completion('{"Emphysema": "present"}'),
    "another key": completion('{"Emphysema": "absent", "Cardiomegaly": "absent", "Note": "x"}'),
    "a key twice": completion(
        '{"Emphysema": "absent", "Cardiomegaly": "absent", "Emphysema": "present"}'
    ),
    "another value": completion('{"Emphysema": "yes", "Cardiomegaly": "absent"}'),
    "a number": completion('{"Emphysema": 1, "Cardiomegaly": 0}'),
    "a nested value": completion('{"Emphysema": ["present"], "Cardiomegaly": {}}'),
    "no text": completion(None),
    "no completion": (200, {}, b'{"error": "overloaded"}'),
    "an empty body": (200, {}, b""),
    "binary": (200, {}, b"\xff\xfe\x00"),
    "no choices": (200, {}, b'{"choices": []}'),
}


@pytest.mark.parametrize("reply", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_asked_again(
    reply: Reply, server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.first = [reply]
    assert labeller_of(endpoint, tmp_path).answers(["Emphysema."]).tolist() == [[1, 0]]
    assert len(server.requests) == 2


def test_a_code_fence_around_the_object_is_no_nonsense() -> None:
    content = '```json\n{"Cardiomegaly": "uncertain", "Emphysema": "present"}\n```'
    assert parse_answer(content, NAMES) == [1, -1]
    with pytest.raises(NotNow):
        parse_answer("```json\n```", NAMES)


def test_only_nonsense_ends_in_one_message_and_keeps_the_other_answers(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.then = lambda text: completion("?") if "bad" in text else reads_words(text)
    with pytest.raises(SetupError, match="3 attempts failed, last: the answer does not follow"):
        labeller_of(endpoint, tmp_path).answers(["Emphysema.", "bad"])
    server.then = reads_words
    num_before = len(server.requests)
    assert labeller_of(endpoint, tmp_path).answers(["Emphysema.", "bad"])[0].tolist() == [1, 0]
    assert len(server.requests) == num_before + 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(
    status: int, server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.first = [(status, {}, b"busy"), (status, {}, b"busy")]
    assert labeller_of(endpoint, tmp_path).answers(["Emphysema."]).tolist() == [[1, 0]]
    assert len(server.requests) == 3


@pytest.mark.slow
def test_the_pause_that_a_server_asks_for_is_kept(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.first = [(429, {"Retry-After": "0.3"}, b"")]
    started = time.monotonic()
    labeller_of(endpoint, tmp_path).answers(["Emphysema."])
    assert time.monotonic() - started >= 0.3
    assert len(server.requests) == 2


@pytest.mark.slow
def test_a_slow_answer_is_given_up_and_asked_again(
    server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.delays_s = [1.5]
    labeller = labeller_of(replace(endpoint, timeout_s=0.5), tmp_path)
    assert labeller.answers(["Emphysema."]).tolist() == [[1, 0]]
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "tiny", attempts=2, pause_s=0.01)
    with pytest.raises(SetupError, match="2 attempts failed") as caught:
        labeller_of(endpoint, tmp_path).answers(["Emphysema."])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_final_and_a_redirect_is_not_followed(
    status: int, server: Server, endpoint: Endpoint, tmp_path: Path
) -> None:
    server.first = [(status, {"Location": f"{server.url}/elsewhere"}, b"no")]
    with pytest.raises(SetupError, match=f"status {status}") as caught:
        labeller_of(endpoint, tmp_path).answers(["Emphysema."])
    assert len(server.requests) == 1
    assert "secret" not in str(caught.value)


def test_the_environment_names_the_endpoint(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match="UVLM_LLM_URL: is not set"):
        get_labeller("llm")
    monkeypatch.setenv("UVLM_LLM_URL", server.url)
    with pytest.raises(SetupError, match="UVLM_LLM_MODEL: is not set"):
        get_labeller("llm")
    monkeypatch.setenv("UVLM_LLM_MODEL", "tiny")
    assert get_labeller("llm", ABDOMEN_LESIONS).name == "llm"
    monkeypatch.setenv("UVLM_LLM_PRICES", "cheap")
    with pytest.raises(ConfigError, match="UVLM_LLM_PRICES"):
        get_labeller("llm")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://"])
def test_only_http_addresses_are_endpoints(url: str) -> None:
    with pytest.raises(ConfigError, match="not an http"):
        Endpoint(url, "tiny")


def test_a_key_leaves_this_machine_encrypted_only() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        Endpoint("http://example.org/v1", "tiny", key="secret")
    assert Endpoint("https://example.org/v1", "tiny", key="secret").key == "secret"


def test_the_command_counts_doubt_and_cost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.then = lambda _: completion(
        json.dumps(dict.fromkeys(ABNORMALITIES, "absent") | {"Emphysema": "uncertain"})
    )
    monkeypatch.setenv("UVLM_LLM_URL", server.url)
    monkeypatch.setenv("UVLM_LLM_MODEL", "tiny")
    monkeypatch.setenv("UVLM_LLM_PRICES", "10,100")
    table, out = tmp_path / "reports.csv", tmp_path / "labels.csv"
    table.write_text("id,text\n1,Emphysema?\n", encoding="utf-8")
    command = ["label", str(table), "--text-column", "text", "--out", str(out)]
    result = CliRunner().invoke(app, [*command, "--labeller", "llm"])
    assert result.exit_code == 0, result.output
    assert "1 labels uncertain" in result.output
    assert "requests 1, tokens_in 100, tokens_out 20, cost 0.003" in result.output
    assert "-1" not in out.read_text(encoding="utf-8")
    kept = CliRunner().invoke(app, [*command, "--labeller", "llm", "--keep-uncertain", "--json"])
    assert json.loads(kept.output)["num_uncertain"] == 1
    assert out.read_text(encoding="utf-8").splitlines()[1].split(",").count("-1") == 1
