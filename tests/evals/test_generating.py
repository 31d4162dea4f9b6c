"""Answers in one go: seeds, stops and thinking, by the class that lm-eval asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.lm import HybridEvalLM
from model.errors import UsageError
from model.inference.generation import Completion, Request, Update
from model.inference.text import StopStrings
from tests.evals.requests import instances


def test_no_room_for_the_prompt_is_refused(artifact: Path) -> None:
    lm = HybridEvalLM.from_artifact(artifact)
    with pytest.raises(UsageError, match="asks for 64 new tokens") as caught:
        lm.generate_until(instances("generate_until", ("Once", {"max_gen_toks": 64})))
    assert "--max-length" in caught.value.remedy


def test_sampled_answers_are_repeatable_and_differ_between_requests(artifact: Path) -> None:
    asked = instances(
        "generate_until", *[("Once", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 20})] * 3
    )
    first = HybridEvalLM.from_artifact(artifact, seed=5).generate_until(asked)
    assert len(set(first)) == 3
    assert HybridEvalLM.from_artifact(artifact, seed=5, batch_rows=1).generate_until(asked) == first
    assert HybridEvalLM.from_artifact(artifact, seed=9).generate_until(asked) != first


class Scripted:
    """Stands for the generator: answers with fixed text, cut by the request's own stop strings."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.requests: list[Request] = []

    def __call__(self, *_: Any, **__: Any) -> "Scripted":
        return self

    def add(self, request: Request) -> int:
        self.requests.append(request)
        return len(self.requests) - 1

    busy = True

    def step(self) -> list[Update]:
        self.busy = False
        updates = []
        for number, request in enumerate(self.requests):
            stops = StopStrings(request.stop, request.stop_after)
            text = stops.push(self.text) + stops.finish()
            updates.append(
                Update(
                    request=number,
                    token_id=5,
                    text=text,
                    completion=Completion([5], [0.0], text),
                    logprob=0.0,
                    top_logprobs=None,
                    prompt_logprobs=None,
                    prompt_top_logprobs=None,
                )
            )
        return updates


@pytest.fixture
def answer(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def answer(prompt: str, generated: str, **settings: Any) -> str:
        monkeypatch.setattr("evals.generating.Generator", Scripted(generated))
        lm = HybridEvalLM.from_artifact(artifact, **settings)
        asked = instances("generate_until", (prompt, {"until": ["\n\n"], "max_gen_toks": 9}))
        return lm.generate_until(asked)[0]

    return answer


def test_thinking_is_no_answer(answer: Callable[..., str]) -> None:
    thoughts = "First.\n\nThen 7?</think>\n\nIt is 8.\n\nMore"
    opened, closed = "Question<think>\n", "Question<think></think>"
    reasoning = {"think_end": "</think>"}
    assert answer(opened, thoughts, **reasoning) == "It is 8."
    assert answer(opened, "never ends\n\nand so on", **reasoning) == ""
    assert answer(closed, "It is 8.\n\nMore", **reasoning) == "It is 8."
    assert answer(closed, "no thinking", **reasoning) == "no thinking"
    assert answer(opened, "a</think>b") == "a</think>b", "without think_end, text is text"


def test_a_stop_string_that_is_a_special_token_stops_by_its_id(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted("x")
    monkeypatch.setattr("evals.generating.Generator", script)
    lm = HybridEvalLM.from_artifact(artifact)
    lm.generate_until(instances("generate_until", ("a", {"until": ["</s>", "<s>", "x"], "max_gen_toks": 9})))
    assert script.requests[0].stop == ("x",)
    assert script.requests[0].stop_ids == {1, 2}
