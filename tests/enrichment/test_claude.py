"""Claude through the real SDK, against a server on this machine that speaks the Messages API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from enrichment.claude import Claude
from enrichment.question import Question, UnansweredError

QUESTIONS = [Question("slow blues", "miles", "", 0), Question("war hammer", "doom", "", 0)]


class Server(ThreadingHTTPServer):
    """Answers every request with `status` and `text`; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.text, self.asked = 200, "", list[dict[str, Any]]()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        good = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "content": [{"type": "text", "text": self.server.text}],
            "usage": {"input_tokens": 1_000, "output_tokens": 200},
        }
        bad = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
        body = json.dumps(good if self.server.status == 200 else bad).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def claude(server: Server, budget_usd: float = 1.0) -> Claude:
    return Claude("sk-test", "model-x", budget_usd, f"http://127.0.0.1:{server.server_port}")


def label(number: int, genre: str) -> dict[str, Any]:
    return {
        "number": number,
        "mood": "calm",
        "valence": 0.5,
        "energy": 0.2,
        "genre": genre,
        "genre_confidence": 0.9,
        "context": "relax",
    }


def test_several_tracks_are_answered_by_one_request(server: Server) -> None:
    """Answers come back by number, with provenance, model and cost; structured output is asked for."""
    server.text = json.dumps({"tracks": [label(1, "metal"), label(0, "jazz"), label(7, "pop")]})
    one = claude(server)
    answers = one.answers(QUESTIONS)
    assert [answers[q].genre for q in QUESTIONS] == ["jazz", "metal"]
    assert {(a.provenance, a.model) for a in answers.values()} == {("claude", "model-x")}
    assert one.spent_usd == pytest.approx(1_000 * 3 / 1e6 + 200 * 15 / 1e6)
    (asked,) = server.asked
    assert asked["output_config"]["format"]["type"] == "json_schema"
    assert "slow blues" in asked["messages"][0]["content"]


@pytest.mark.parametrize("text", ["no JSON", json.dumps({"tracks": [{**label(0, "jazz"), "genre": "polka"}]})])
def test_an_answer_that_does_not_fit_is_no_answer(server: Server, text: str) -> None:
    """Text that is not the schema raises `unreadable`; the rules answer then."""
    server.text = text
    with pytest.raises(UnansweredError) as error:
        claude(server).answers(QUESTIONS)
    assert (error.value.kind, error.value.lasting) == ("unreadable", False)


def test_a_wrong_key_is_lasting(server: Server) -> None:
    """A refused key is not tried again in this run."""
    server.status = 401
    with pytest.raises(UnansweredError) as error:
        claude(server).answers(QUESTIONS)
    assert (error.value.kind, error.value.lasting) == ("refused", True)


def test_the_budget_is_hard(server: Server) -> None:
    """A request that could cost more than is left is not sent."""
    with pytest.raises(UnansweredError) as error:
        claude(server, budget_usd=0.001).answers(QUESTIONS)
    assert (error.value.kind, error.value.lasting, server.asked) == ("budget", True, [])
