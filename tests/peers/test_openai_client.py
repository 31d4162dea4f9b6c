"""The real `openai` client against a real server: what it is given is what the core computes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from model.chat.parsers import parse
from model.inference.generation import Completion, Generator, Request
from model.inference.sampling import GREEDY, SamplingParams
from model.tokenizer import load_tokenizer
from tests.stages.conftest import model, tokenizer_directory
from tests.stages.serve.conftest import ARGUMENTS, BROKEN, WHOLE, caller, prompt_ids, server
from tests.stages.serve.running import Running, running

__all__ = ["caller", "model", "server", "tokenizer_directory"]

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "time")
]
USER: list[Any] = [{"role": "user", "content": "Once upon a time"}]


@pytest.fixture(scope="session")
def calling(caller: Path) -> Iterator[openai.OpenAI]:
    with running(caller, name="tiny") as serving:
        yield serving.client()


def alone(server: Running, model: Path, prompt: list[int], **settings: Any) -> Completion:
    """What the engine gives for the prompt by itself."""
    tokenizer = load_tokenizer(model)
    (completion,) = Generator(server.lm, tokenizer).run([Request(prompt, **settings)])
    return completion


def logprobs(server: Running, ids: list[int]) -> torch.Tensor:
    """[tokens - 1, V] of each token but the first, by one pass."""
    with torch.no_grad():
        return server.lm(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)


def test_a_chat_is_answered_as_the_engine_does(server: Running, model: Path) -> None:
    prompt = prompt_ids(load_tokenizer(model), "Once upon a time", thinking=False)
    expected = alone(server, model, prompt, max_tokens=20, stop_ids=frozenset({2, 12}))
    answer = server.client().chat.completions.create(
        model="tiny", messages=USER, temperature=0, max_tokens=20,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )  # fmt: skip
    message = parse(expected.text)
    assert answer.choices[0].message.content == message.content
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        len(prompt),
        len(expected.token_ids),
    )


@pytest.mark.parametrize("thinking", [True, False])
def test_streamed_deltas_join_to_the_answer(server: Running, thinking: bool) -> None:
    settings: dict[str, Any] = {
        "model": "tiny", "messages": USER, "temperature": 1, "seed": 5, "max_tokens": 40, "n": 2, "logprobs": True,
        "top_logprobs": 3, "extra_body": {"chat_template_kwargs": {"enable_thinking": thinking}},
    }  # fmt: skip
    client = server.client()
    whole = client.chat.completions.create(**settings)
    texts = [{"content": "", "reasoning_content": ""} for _ in range(2)]
    entries: list[list[Any]] = [[], []]
    reasons: dict[int, str] = {}
    usage = None
    stream = client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            for field in texts[choice.index]:
                texts[choice.index][field] += getattr(choice.delta, field, None) or ""
            entries[choice.index] += (choice.logprobs and choice.logprobs.content) or []
            if choice.finish_reason:
                assert choice.index not in reasons
                reasons[choice.index] = choice.finish_reason
    assert usage == whole.usage
    for choice, text in zip(whole.choices, texts, strict=True):
        assert text["content"] == (choice.message.content or "")
        assert text["reasoning_content"] == (getattr(choice.message, "reasoning_content", None) or "")
        assert reasons[choice.index] == choice.finish_reason
        assert choice.logprobs is not None
        assert entries[choice.index] == choice.logprobs.content
    assert whole.choices[0].message != whole.choices[1].message


def test_the_seed_decides(server: Running) -> None:
    def text(**settings: Any) -> str:
        answer = server.client().completions.create(model="tiny", prompt="Once", max_tokens=12, **settings)
        return answer.choices[0].text

    assert text(seed=3) == text(seed=3) != text(seed=4)
    assert text(seed=3, top_p=1e-9) == text(temperature=0) == text(seed=9, extra_body={"top_k": 1})


def test_chat_logprobs_are_the_models(server: Running, model: Path) -> None:
    tokenizer = load_tokenizer(model)
    answer = server.client().chat.completions.create(
        model="tiny", messages=USER, seed=1, max_tokens=16, logprobs=True, top_logprobs=4
    )
    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content or []
    prompt = prompt_ids(tokenizer, "Once upon a time")
    sampling = SamplingParams(seed=1)
    generated = alone(
        server, model, prompt, max_tokens=16, sampling=sampling, stop_ids=frozenset({2, 12})
    ).token_ids
    assert len(entries) == len(generated)
    expected = logprobs(server, prompt + generated)[len(prompt) - 1 :]
    for entry, token, row in zip(entries, generated, expected, strict=True):
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-5)
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(
            row.topk(4).values.tolist(), abs=1e-5
        )
        assert bytes(entry.bytes or ()).decode(errors="replace") == entry.token


@pytest.mark.parametrize("form", ["text", "ids"])
def test_echoed_prompts_have_their_logprobs(server: Running, model: Path, form: str) -> None:
    tokenizer = load_tokenizer(model)
    ids = tokenizer("Once upon a time, 語")["input_ids"]
    answer = server.client().completions.create(
        model="tiny", prompt="Once upon a time, 語" if form == "text" else ids, max_tokens=3, temperature=0, echo=True,
        logprobs=2,
    )  # fmt: skip
    choice = answer.choices[0]
    generated = alone(server, model, ids, max_tokens=3, sampling=GREEDY)
    prefix = "" if form == "text" else "<s>"
    assert choice.text == f"{prefix}Once upon a time, 語{generated.text}"
    told = choice.logprobs
    assert told is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    assert told.text_offset is not None
    assert told.tokens is not None
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    whole = ids + generated.token_ids
    expected = logprobs(server, whole)
    assert told.token_logprobs[1:] == pytest.approx(
        [float(row[token]) for row, token in zip(expected, whole[1:], strict=True)], abs=1e-5
    )
    for mine, row, token in zip(told.top_logprobs[1:], expected, whole[1:], strict=True):
        assert sorted(mine.values(), reverse=True)[:2] == pytest.approx(row.topk(2).values.tolist(), abs=1e-5)
        assert (max(mine.values()) == mine[list(mine)[-1]]) or len(mine) == 3
        assert (int(row.argmax()) == token) == (
            max(mine.values()) == pytest.approx(float(row[token]), abs=1e-6)
        )
    assert told.text_offset == sorted(told.text_offset)
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        if not token.startswith("bytes:") and token != "<s>":
            assert choice.text[offset:].startswith(token)


def test_a_prompt_may_be_scored_without_an_answer(server: Running) -> None:
    answer = server.client().completions.create(
        model="tiny", prompt="Once", max_tokens=0, echo=True, logprobs=0
    )
    assert answer.choices[0].text == "Once"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0
    told = answer.choices[0].logprobs
    assert told is not None
    assert len(told.tokens or ()) == answer.usage.prompt_tokens


def test_lists_of_prompts(server: Running, model: Path) -> None:
    texts = ["Once upon", "A time"]
    ids = [load_tokenizer(model)(text)["input_ids"] for text in texts]

    def answers(prompt: Any) -> list[tuple[int, str]]:
        answer = server.client().completions.create(
            model="tiny", prompt=prompt, n=2, max_tokens=6, seed=1, temperature=1
        )
        return [(choice.index, choice.text) for choice in answer.choices]

    together = answers(texts)
    assert together == answers(ids)
    assert [index for index, _ in together] == [0, 1, 2, 3]
    assert [text for _, text in together] == [text for each in texts for _, text in answers(each)]


def test_stop_strings_end_a_text(server: Running) -> None:
    client = server.client()
    whole = (
        client.completions.create(model="tiny", prompt="Once", max_tokens=30, temperature=0).choices[0].text
    )
    stop = whole[7:9]
    ended = client.completions.create(model="tiny", prompt="Once", max_tokens=30, temperature=0, stop=stop)
    assert ended.choices[0].text == whole[: whole.index(stop)]
    assert ended.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", [{"type": "function", "function": {"name": "weather"}}, "required"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_is_a_call(calling: openai.OpenAI, choice: Any, stream: bool) -> None:
    settings: dict[str, Any] = {
        "model": "tiny", "messages": USER, "tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_tokens": 9,
    }  # fmt: skip
    if stream:
        with calling.chat.completions.stream(**settings) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = calling.chat.completions.create(**settings)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", json.loads(ARGUMENTS))
    assert call.id.startswith("call_")
    assert not answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_tool_loop_goes_on(calling: openai.OpenAI) -> None:
    """The message of the client goes back as it came, with the result."""
    first = calling.chat.completions.create(
        model="tiny", messages=USER, tools=TOOLS, tool_choice="required", temperature=0, max_tokens=9
    ).choices[0]  # fmt: skip
    assert first.message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "sunny"}
    second = calling.chat.completions.create(
        model="tiny", messages=[*USER, first.message, result], tools=TOOLS, temperature=0, max_tokens=9
    )
    assert second.choices[0].message.content == "1"
    assert second.choices[0].finish_reason == "stop"


def sampled(calling: openai.OpenAI, **settings: Any) -> list[Any]:
    """Some of them are "1", some calls, some broken calls."""
    answer = calling.chat.completions.create(
        model="tiny", messages=USER, seed=1, n=24, max_tokens=9, **settings
    )
    return [choice.message for choice in answer.choices]


def test_calls_are_made_where_there_are_tools(calling: openai.OpenAI) -> None:
    messages = sampled(calling, tools=TOOLS)
    assert {message.content for message in messages} == {None, "1", f"<TOOLCALL>{BROKEN}</TOOLCALL>"}
    calls = [message.tool_calls[0].function for message in messages if message.content is None]
    assert {(call.name, call.arguments) for call in calls} == {("weather", ARGUMENTS)}


@pytest.mark.parametrize("settings", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_calls_are_text_where_there_are_none(calling: openai.OpenAI, settings: dict[str, Any]) -> None:
    messages = sampled(calling, **settings)
    texts = {"1", f"<TOOLCALL>{BROKEN}</TOOLCALL>", f"<TOOLCALL>{WHOLE}</TOOLCALL>"}
    assert {message.content for message in messages} == texts
    assert {message.tool_calls for message in messages} == {None}


def test_thinking_is_apart_and_counted(calling: openai.OpenAI) -> None:
    answer = calling.chat.completions.create(model="tiny", messages=USER, temperature=0, max_tokens=9)
    message = answer.choices[0].message
    assert (getattr(message, "reasoning_content", None), message.content) == ("2", "1")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 1


def test_a_thinking_budget_closes_the_thinking(server: Running) -> None:
    answer = server.client().chat.completions.create(
        model="tiny", messages=USER, temperature=0, max_tokens=60,
        extra_body={"thinking_budget": 5, "thinking_grace": 0},
    )  # fmt: skip
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 5
    assert answer.choices[0].message.content


def test_models(server: Running) -> None:
    client = server.client()
    assert [each.id for each in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


@pytest.mark.parametrize(
    ("settings", "kind", "param", "code"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "model", "model_not_found"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", None),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature", None),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", None),
        ({"max_tokens": 100000}, openai.BadRequestError, "max_tokens", "context_length_exceeded"),
        ({"messages": []}, openai.BadRequestError, "messages", None),
        ({"messages": [{"role": "king", "content": "x"}]}, openai.BadRequestError, "messages[0].role", None),
        ({"messages": [{"role": "user", "content": "x " * 400}]}, openai.BadRequestError, None, "context_length_exceeded"),
        ({"n": 1000}, openai.BadRequestError, "n", None),
        ({"frequency_penalty": 0.5}, openai.BadRequestError, "frequency_penalty", None),
        ({"logit_bias": {"5": 1}}, openai.BadRequestError, "logit_bias", None),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format", None),
        ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "nonsense", "unknown_parameter"),
        ({"extra_body": {"thinking_budget": 3, "chat_template_kwargs": {"enable_thinking": False}}},
         openai.BadRequestError, None, None),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice", None),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
         openai.BadRequestError, "tool_choice", None),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
         openai.BadRequestError, "tools[0].function.parameters", None),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
         openai.BadRequestError, "tools[0].function.strict", None),
    ],
)  # fmt: skip
def test_refusals(server: Running, settings: dict[str, Any], kind: Any, param: Any, code: Any) -> None:
    with pytest.raises(kind) as caught:
        server.client().chat.completions.create(**{"model": "tiny", "messages": USER, **settings})
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.message
    server.wait_for(running=0, waiting=0)


@pytest.mark.parametrize("prompt", [[], [448], [-1], ["x", [1]], [[]], {"a": 1}, [True], "x " * 400])
def test_prompts_that_cannot_be_continued(server: Running, prompt: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().completions.create(model="tiny", prompt=prompt, max_tokens=2)
    assert caught.value.message


def test_an_empty_prompt_asks_for_a_text_from_nothing(server: Running) -> None:
    answer = server.client().completions.create(model="tiny", prompt="", max_tokens=4)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 4)


def test_harmless_fields_are_taken(server: Running) -> None:
    answer = server.client().chat.completions.create(
        model="tiny", messages=USER, max_tokens=2, user="me", metadata={"a": "b"}, store=False, frequency_penalty=0,
        presence_penalty=0, logit_bias={}, parallel_tool_calls=True, response_format={"type": "text"}, top_p=1,
        service_tier="auto", max_completion_tokens=2, tool_choice="auto",
    )  # fmt: skip
    assert answer.choices[0].finish_reason == "length"
