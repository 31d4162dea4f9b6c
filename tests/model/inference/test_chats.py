"""Conversations of several turns with tools: what the trainer sees packed is what the generator reads and goes on with."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.chat.template import encode
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from model.inference.sampling import SamplingParams
from model.loss import next_token_labels, token_cross_entropy
from model.tokenizer import load_tokenizer
from tests.model.miniatures import miniature, randomized

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def conversation(city: str) -> list[dict[str, Any]]:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Hello, I am in {city}"},
        {"role": "assistant", "content": "Hello", "reasoning_content": "They greet."},
        {"role": "user", "content": f"What is the weather in {city}?"},
        {"role": "assistant", "content": "", "reasoning_content": "Ask.", "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny", "reasoning_content": "So it is."},
    ]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Any:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture(scope="module")
def lm(tokenizer: Any) -> HybridLM:
    return randomized(miniature("M*M-", vocab_size=len(tokenizer), max_position_embeddings=2000))


@torch.no_grad()
def packed_logprobs(lm: HybridLM, documents: list[list[int]]) -> list[torch.Tensor]:
    """Of each document's tokens but its first, from one row that holds them all."""
    ids_1T = torch.tensor([[token for document in documents for token in document]])
    numbers_1T = torch.tensor([[n for n, document in enumerate(documents) for _ in document]])
    hidden_1TD = lm.hidden_states(ids_1T, numbers_1T)
    losses = token_cross_entropy(hidden_1TD, lm.lm_head.weight, next_token_labels(ids_1T, numbers_1T))
    return [-part[:-1] for part in losses.per_token[0].split([len(document) for document in documents])]


def test_logprobs_of_packed_conversations(lm: HybridLM, tokenizer: Any) -> None:
    """A rollout's tokens, sampled after a tool's result, have the log-probabilities that the trainer finds for them in a row
    packed with other conversations."""
    whole, prompts = [], []
    for city in ("Rome", "Oslo by the sea"):
        messages = conversation(city)
        whole.append(encode(tokenizer, messages, tools=TOOLS).ids)
        prompts.append(encode(tokenizer, messages[:-1], tools=TOOLS, add_generation_prompt=True).ids)
        assert whole[-1][: len(prompts[-1])] == prompts[-1]
    requests = [Request(ids, 1, prompt_logprobs=True) for ids in whole]
    requests += [
        Request(ids, 20, SamplingParams(1.0, seed=seed), prompt_logprobs=True)
        for seed, ids in enumerate(prompts)
    ]
    completions = Generator(lm, tokenizer, prefill_chunk=100).run(requests)
    documents = [
        [*request.prompt_ids, *completion.token_ids]
        for request, completion in zip(requests, completions, strict=True)
    ]
    for completion, expected in zip(completions, packed_logprobs(lm, documents), strict=True):
        assert completion.prompt_logprobs is not None
        mine = torch.tensor(completion.prompt_logprobs[1:] + completion.logprobs)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)


def test_the_turns_of_a_tool_loop_are_generated_together(lm: HybridLM, tokenizer: Any) -> None:
    """The prompts of all assistant turns, each a different part of one conversation, in one batch and greedily."""
    messages = conversation("Rome")
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    requests = [
        Request(encode(tokenizer, messages[:turn], tools=TOOLS, add_generation_prompt=True).ids, 16)
        for turn in turns
    ]
    for request, completion in zip(requests, Generator(lm, max_rows=2).run(requests), strict=True):
        ids = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            logits = lm(ids).logits[0, len(request.prompt_ids) - 1 : -1]
        best = logits.topk(2)
        for token, value, index in zip(completion.token_ids, best.values, best.indices, strict=True):
            assert token == index[0] or value[0] - value[1] < 1e-4
