"""The batched generator against the full forward pass: same tokens, same log-probabilities, whatever the batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.sampling import SamplingParams
from model.tokenizer import load_tokenizer
from tests.model.miniatures import MINIATURES, miniature, randomized

LENGTHS = (1, 33, 7, 16, 50, 2, 17)
NAMES = ("pure-mamba", "pure-attention", "width-unlike-expand", "one-group-conv-2", "biases")


def prompts(lm: HybridLM) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randint(lm.config.vocab_size, (length,), generator=generator).tolist() for length in LENGTHS
    ]


@torch.no_grad()
def forward_logprobs(lm: HybridLM, prompt: list[int], completion: Completion) -> torch.Tensor:
    """[generated tokens, V], by one pass over prompt and completion."""
    ids = torch.tensor([prompt + completion.token_ids])
    return lm(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)


def record_reading(lm: HybridLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each forward pass reads, from now on."""
    read: list[int] = []
    forward = lm.hidden_states

    def hidden_states(ids: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        read.append(ids.numel())
        return forward(ids, *rest, **named)

    monkeypatch.setattr(lm, "hidden_states", hidden_states)
    return read


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_rows", [1, 3, 32])
def test_greedy_is_the_argmax_of_the_full_forward(name: str, max_rows: int) -> None:
    """With few rows requests join others that are being decoded; they leave after different numbers of tokens."""
    lm = randomized(MINIATURES[name])
    requests = [Request(prompt, 5 + 4 * number) for number, prompt in enumerate(prompts(lm))]
    completions = Generator(lm, max_rows=max_rows, prefill_chunk=13).run(requests)
    for request, completion in zip(requests, completions, strict=True):
        logprobs = forward_logprobs(lm, list(request.prompt_ids), completion)
        best = logprobs.topk(2).values
        for step, token in enumerate(completion.token_ids):
            clear = best[step, 0] - best[step, 1] > 1e-4
            assert not clear or token == logprobs[step].argmax()
            assert abs(completion.logprobs[step] - logprobs[step, token]) < 1e-4
        assert len(completion.token_ids) == request.max_tokens
        assert completion.finish_reason is FinishReason.LENGTH


def test_a_sample_does_not_depend_on_the_batch() -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    requests = [
        Request(prompt, 12, SamplingParams(1.0, top_p=0.9, seed=number))
        for number, prompt in enumerate(prompts(lm))
    ]
    together = Generator(lm, max_rows=4).run(requests)
    for request, completion in zip(requests, together, strict=True):
        assert Generator(lm).run([request])[0].token_ids == completion.token_ids


def test_samples_of_one_prompt_read_it_once_and_differ_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    prompt = prompts(lm)[4]
    read = record_reading(lm, monkeypatch)
    completions = Generator(lm).run([Request(prompt, 10, SamplingParams(seed=seed)) for seed in (1, 2, 1)])
    assert sum(read) == len(prompt) + 3 * 9
    assert completions[0].token_ids == completions[2].token_ids != completions[1].token_ids


def test_requests_may_join_while_others_are_decoded() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    first, second = (Request(prompt, 8) for prompt in prompts(lm)[:2])
    expected = [Generator(lm).run([request])[0].token_ids for request in (first, second)]
    generator = Generator(lm)
    tokens: dict[int, list[int]] = {generator.add(first): []}
    for step in range(9):
        if step == 3:
            tokens[generator.add(second)] = []
        for update in generator.step():
            tokens[update.request].append(update.token_id)
    while generator.busy:
        for update in generator.step():
            tokens[update.request].append(update.token_id)
    assert list(tokens.values()) == expected


def test_ends_at_a_stop_id_and_keeps_it() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    prompt = prompts(lm)[1]
    free = Generator(lm).run([Request(prompt, 20)])[0].token_ids
    stop = free[6]
    completion = Generator(lm).run([Request(prompt, 20, stop_ids=frozenset({stop}))])[0]
    assert completion.token_ids == free[: free.index(stop) + 1]
    assert completion.finish_reason is FinishReason.STOP


def test_text_ends_before_a_stop_string(tokenizer_directory: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_directory)
    lm = randomized(miniature("M*", vocab_size=len(tokenizer)))
    prompt = tokenizer("Once upon a time")["input_ids"]
    whole = Generator(lm, tokenizer).run([Request(prompt, 30)])[0].text
    stop = whole[20:22]
    completion = Generator(lm, tokenizer).run([Request(prompt, 30, stop=(stop,))])[0]
    assert completion.text == whole[: whole.index(stop)]
    assert completion.finish_reason is FinishReason.STOP
    assert len(completion.token_ids) < 30


def test_streamed_text_adds_up_to_the_completion(tokenizer_directory: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_directory)
    lm = randomized(miniature("M*", vocab_size=len(tokenizer)))
    generator = Generator(lm, tokenizer)
    for number in range(3):
        generator.add(Request([1, number + 40], 25, SamplingParams(seed=number)))
    shown = [""] * 3
    while generator.busy:
        for update in generator.step():
            shown[update.request] += update.text
            if update.completion is not None:
                assert shown[update.request] == update.completion.text
                ids = update.completion.token_ids
                assert update.completion.text == tokenizer.decode(ids, skip_special_tokens=True)


def test_logits_that_are_not_finite_name_the_layer() -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    with torch.no_grad():
        lm.get_parameter("backbone.layers.2.mixer.in_proj.weight")[0, 0] = math.inf
    with pytest.raises(ArtifactError, match=r"layer 2 \(Mamba-2\)"):
        Generator(lm).run([Request([1, 2, 3], 4)])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], 4), "no tokens"),
        (Request([5, 96], 4), "token ids outside"),
        (Request([-1], 4), "token ids outside"),
        (Request([1], 0), "max_tokens is 0"),
        (Request([1], 4, stop=("x",)), "need a tokenizer"),
    ],
)
def test_requests_that_cannot_be_generated_for_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Generator(randomized(MINIATURES["pure-mamba"])).add(request_)
