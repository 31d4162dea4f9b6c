"""The batched generator against the full forward pass: same tokens, same log-probabilities, whatever the batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.sampling import SamplingParams
from model.loss import next_token_labels, token_cross_entropy
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


@torch.no_grad()
def trainer_logprobs(lm: HybridLM, ids: list[int]) -> torch.Tensor:
    """Of each token but the first, in the way the training loop computes its loss."""
    ids_1T = torch.tensor([ids])
    losses = token_cross_entropy(lm.hidden_states(ids_1T), lm.lm_head.weight, next_token_labels(ids_1T))
    return -losses.per_token[0, :-1]


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
            assert abs(completion.logprobs[step] - logprobs[step, token]) < 1e-5
        assert len(completion.token_ids) == request.max_tokens
        assert completion.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("name", NAMES)
def test_logprobs_are_those_of_the_trainer(name: str) -> None:
    """Of the prompt and of what is generated, whatever the chunks that a prompt is read in."""
    lm = randomized(MINIATURES[name])
    requests = [
        Request(prompt, 9, SamplingParams(1.0, seed=number), prompt_logprobs=True)
        for number, prompt in enumerate(prompts(lm))
    ]
    for chunk in (1, 13, 2048):
        for request, completion in zip(
            requests, Generator(lm, max_rows=3, prefill_chunk=chunk).run(requests), strict=True
        ):
            assert completion.prompt_logprobs is not None
            first, *rest = completion.prompt_logprobs
            assert first is None
            expected = trainer_logprobs(lm, [*request.prompt_ids, *completion.token_ids])
            torch.testing.assert_close(torch.tensor(rest + completion.logprobs), expected, rtol=0, atol=1e-5)


def test_prompt_logprobs_are_for_those_who_ask_and_read_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    prompt = prompts(lm)[4]
    read = record_reading(lm, monkeypatch)
    plain, asking = (Request(prompt, 4, prompt_logprobs=asks) for asks in (False, True))
    other = Request([3], 4, prompt_logprobs=True)
    completions = Generator(lm).run([plain, other, asking])
    assert completions[0].prompt_logprobs is None
    assert completions[1].prompt_logprobs == [None]
    assert len(completions[2].prompt_logprobs or ()) == len(prompt)
    assert completions[0].token_ids == completions[2].token_ids
    assert sum(read) == len(prompt) + 1 + 3 * 3


def test_prompt_logprobs_never_hold_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 3,000 tokens and a vocabulary of 5,000: the largest tensor of logits is far from 60 MB."""
    lm = randomized(miniature("M", vocab_size=5000))
    made: list[int] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape[-1:] == (5000,):
                made.append(out.numel())
            return out

    prompt = torch.randint(5000, (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    with Recorder():
        completion = Generator(lm).run([Request(prompt, 1, prompt_logprobs=True)])[0]
    assert len(completion.prompt_logprobs or ()) == 3000
    assert 5000 < max(made) <= 300 * 5000


def test_a_sample_does_not_depend_on_the_batch() -> None:
    """Nor on the order, on who joins when, or on who leaves."""
    lm = randomized(MINIATURES["width-unlike-expand"])
    requests = [
        Request(prompt, 12 - number, SamplingParams(1.0, top_p=0.9, seed=number))
        for number, prompt in enumerate(prompts(lm))
    ]
    alone = [Generator(lm).run([request])[0].token_ids for request in requests]
    for rows in (2, 4, 32):
        together = Generator(lm, max_rows=rows).run(requests[::-1])
        assert [completion.token_ids for completion in together] == alone[::-1]
    generator = Generator(lm, max_rows=4)
    numbers: dict[int, int] = {}
    made: dict[int, list[int]] = {}
    for index, request in enumerate(requests):
        numbers[generator.add(request)] = index
        if index == 3:
            generator.cancel(1)
        for update in generator.step():
            made.setdefault(numbers[update.request], []).append(update.token_id)
    while generator.busy:
        for update in generator.step():
            made.setdefault(numbers[update.request], []).append(update.token_id)
    cancelled = made.pop(1)
    assert cancelled == alone[1][: len(cancelled)] != alone[1]
    assert made == {index: tokens for index, tokens in enumerate(alone) if index != 1}


def test_cancelling_what_waits_what_is_decoded_and_what_is_gone() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    generator = Generator(lm, max_rows=1)
    decoded, waiting = (generator.add(Request(prompt, 9)) for prompt in prompts(lm)[:2])
    generator.step()
    generator.cancel(waiting)
    generator.cancel(decoded)
    assert not generator.busy
    assert generator.step() == []
    generator.cancel(decoded)
    generator.cancel(77)
    assert len(generator.run([Request([1], 3)])[0].token_ids) == 3


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
        (Request([1.0, 2.0], 4), "no sequence of token ids"),  # type: ignore[list-item]
        (Request("12", 4), "no sequence of token ids"),  # type: ignore[arg-type]
        (Request([1], 0), "max_tokens is 0"),
        (Request([1], 4, stop=("x",)), "need a tokenizer"),
    ],
)
def test_requests_that_cannot_be_generated_for_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Generator(randomized(MINIATURES["pure-mamba"])).add(request_)


@pytest.mark.parametrize("settings", [{"max_rows": 0}, {"prefill_chunk": 0}])
def test_settings_with_which_nothing_can_be_generated_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="is 0"):
        Generator(randomized(MINIATURES["pure-mamba"]), **settings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_generate_as_their_full_forward(dtype: torch.dtype) -> None:
    """Prompts of several lengths are read in one pass in each."""
    lm = randomized(MINIATURES["one-group-conv-2"], dtype=dtype)
    requests = [Request(prompt, 9, prompt_logprobs=True) for prompt in prompts(lm)]
    rounding = 1e-9 if dtype == torch.float64 else 0.2
    for request, completion in zip(requests, Generator(lm, max_rows=4).run(requests), strict=True):
        expected = trainer_logprobs(lm, [*request.prompt_ids, *completion.token_ids])
        assert completion.prompt_logprobs is not None
        mine = torch.tensor(completion.prompt_logprobs[1:] + completion.logprobs, dtype=torch.float64)
        torch.testing.assert_close(mine, expected.double(), rtol=0, atol=rounding)


def test_ids_may_come_in_a_tensor_or_an_array() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    expected = Generator(lm).run([Request([5, 7, 9], 4)])[0].token_ids
    for ids in (torch.tensor([5, 7, 9]), torch.tensor([5, 7, 9]).numpy()):
        assert Generator(lm).run([Request(ids, 4)])[0].token_ids == expected  # type: ignore[arg-type]


def test_likeliest_tokens_are_as_many_as_each_request_asks_for() -> None:
    lm = randomized(MINIATURES["biases"])
    prompt = prompts(lm)[4]
    counts = (0, 3, 200)
    found = Generator(lm).run(
        [Request(prompt, 6, prompt_logprobs=True, top_logprobs=count) for count in counts]
    )
    for count, completion in zip(counts, found, strict=True):
        expected = forward_logprobs(lm, prompt, completion)
        told = min(count, lm.config.vocab_size)
        assert [len(each) for each in completion.top_logprobs] == [told] * 6
        for likely, row_V in zip(completion.top_logprobs, expected, strict=True):
            assert [value for _, value in likely] == pytest.approx(row_V.topk(told).values.tolist(), abs=1e-5)
        assert completion.prompt_top_logprobs is not None
        assert [len(each) for each in completion.prompt_top_logprobs] == [0] + [told] * (len(prompt) - 1)
    with pytest.raises(UsageError, match="top_logprobs is -1"):
        Generator(lm).add(Request(prompt, 6, top_logprobs=-1))
