"""The LM class without a peer: what it adds to lm-eval's `hf`, and what it refuses. tests/peers compares the numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from evals.generation_settings import DEFAULT_MAX_TOKENS, GenerationSettings
from evals.lm import HybridEvalLM
from model.errors import ArtifactError, UsageError
from model.inference.generation import Completion, Request, Update
from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.conftest import tokenizer_directory

__all__ = ["tokenizer_directory"]


@pytest.fixture(scope="module")
def artifact(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("artifact")
    copy_tokenizer(tokenizer_directory, directory)
    vocab = len(load_tokenizer(directory))
    save(
        randomized(miniature("M*-", vocab_size=vocab, max_position_embeddings=64, eos_token_id=2)), directory
    )
    return directory


def instances(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, args, index, ("task", index, 1)) for index, args in enumerate(arguments)]


def test_nothing_has_probability_one(artifact: Path) -> None:
    lm = HybridEvalLM.from_artifact(artifact)
    assert lm.loglikelihood(instances("loglikelihood", ("Once", ""), ("", ""))) == [(0.0, True)] * 2
    assert lm.loglikelihood_rolling(instances("loglikelihood_rolling", ("Once",), ("",)))[0] < 0


def test_a_continuation_that_melts_into_the_context_is_scored(artifact: Path) -> None:
    """`</s` and `>` are one token together: hf would stop at an assertion."""
    lm = HybridEvalLM.from_artifact(artifact)
    ((logprob, _),) = lm.loglikelihood(instances("loglikelihood", ("Once</thin", "k>")))
    assert logprob < 0


def test_truncation_is_said_once_and_progress_reaches_the_end(artifact: Path) -> None:
    warnings: list[str] = []
    bars: list[list[Any]] = []

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Any]:
        bars.append([title, total, 0])

        class Bar:
            def update(self, advance: int = 1) -> None:
                bars[-1][2] += advance

        yield Bar()

    lm = HybridEvalLM.from_artifact(artifact, progress=progress, warn=warnings.append, batch_tokens=50)
    requests = instances("loglikelihood", ("word " * 200, "end"), ("Once", " upon"), ("word " * 100, "end"))
    lm.loglikelihood(requests)
    lm.generate_until(instances("generate_until", ("Once", {"max_gen_toks": 3}), ("A", {"max_gen_toks": 2})))
    assert warnings == ["2 of 3 requests are longer than 64 tokens and lost their beginning"]
    assert bars == [["scoring", 3, 3], ["generating", 2, 2]]


def test_a_continuation_longer_than_the_model_reads_is_refused(artifact: Path) -> None:
    lm = HybridEvalLM.from_artifact(artifact)
    with pytest.raises(ArtifactError, match="a continuation to be scored has"):
        lm.loglikelihood(instances("loglikelihood", ("Once", " word" * 100)))


def test_a_longer_max_length_is_taken(artifact: Path) -> None:
    warnings: list[str] = []
    lm = HybridEvalLM.from_artifact(artifact, max_length=1000, warn=warnings.append)
    lm.loglikelihood(instances("loglikelihood", ("Once", " word" * 100)))
    assert not warnings


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
        from model.inference.text import StopStrings

        self.busy = False
        updates = []
        for number, request in enumerate(self.requests):
            stops = StopStrings(request.stop, request.stop_after)
            text = stops.push(self.text) + stops.finish()
            updates.append(Update(number, 5, text, Completion([5], [0.0], text)))
        return updates


@pytest.fixture
def answer(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def answer(prompt: str, generated: str, **settings: Any) -> str:
        monkeypatch.setattr("evals.lm.Generator", Scripted(generated))
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
    monkeypatch.setattr("evals.lm.Generator", script)
    lm = HybridEvalLM.from_artifact(artifact)
    lm.generate_until(instances("generate_until", ("a", {"until": ["</s>", "<s>", "x"], "max_gen_toks": 9})))
    assert script.requests[0].stop == ("x",)
    assert script.requests[0].stop_ids == {1, 2}


def test_chat_ends_where_a_turn_ends(artifact: Path) -> None:
    assert 12 in HybridEvalLM.from_artifact(artifact, chat=True)._stop_ids
    assert 12 not in HybridEvalLM.from_artifact(artifact)._stop_ids


def test_a_tokenizer_without_any_text_token_is_refused(artifact: Path) -> None:
    tokenizer = load_tokenizer(artifact)
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ArtifactError, match="neither a bos_token nor an eos_token"):
        HybridEvalLM(randomized(miniature("M")), tokenizer, stop_ids=frozenset())


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.0, 1.0, 0)),
        ({"until": "a", "max_gen_toks": 5}, GenerationSettings(("a",), 5, 0.0, 1.0, 0)),
        ({"temperature": 0.7, "top_p": 0.9}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.7, 0.9, 0)),
        ({"temperature": 0.7, "do_sample": False}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.0, 1.0, 0)),
        ({"do_sample": True, "top_k": 4}, GenerationSettings((), DEFAULT_MAX_TOKENS, 1.0, 1.0, 4)),
        ({"max_new_tokens": "7", "num_beams": 1}, GenerationSettings((), 7, 0.0, 1.0, 0)),
    ],
)
def test_generation_settings(kwargs: dict[str, Any], expected: GenerationSettings) -> None:
    assert GenerationSettings.of(kwargs, "task") == expected


@pytest.mark.parametrize(
    ("kwargs", "what"),
    [
        ({"num_beams": 4}, "num_beams = 4 is not supported"),
        ({"untill": ["a"]}, "untill = "),
        ({"repetition_penalty": 1.2}, "repetition_penalty = 1.2"),
        ({"top_p": "x"}, "is no number"),
        ({"until": 3}, "until is 3, neither a text nor a list of texts"),
    ],
)
def test_settings_without_effect_are_refused(kwargs: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        GenerationSettings.of(kwargs, "task")
    assert caught.value.where == "task task"
    assert caught.value.remedy
