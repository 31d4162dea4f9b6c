"""Answers in one go: prompts as texts in, what the model generates out, each request answered once and kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance

from evals.answers import Answer, Generated
from evals.encoding import RequestEncoder
from evals.generation_settings import GenerationSettings
from evals.request_seeds import RequestSeeds
from evals.respondent import Respondent
from evals.response_cache import tokens_key
from model.chat.template import ends_in_thinking
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.thinking import ThinkingBudget


def generated_answers(
    model: Respondent, encoder: RequestEncoder, requests: Sequence[Instance]
) -> list[Answer]:
    """For each (prompt, settings) the answer."""
    asked = _requests(model, encoder, requests)
    keys = [_key(model, request) for request in asked]
    found = model.remembered.found(keys)
    missing = {key: request for key, request in zip(keys, asked, strict=True) if key not in found}
    generator = Generator(model.lm, model.tokenizer, max_rows=model.batch_rows)
    longest_first = sorted(
        missing, key=lambda key: (-len(missing[key].prompt_ids), missing[key].prompt_ids, key)
    )
    numbers = {generator.add(missing[key]): key for key in longest_first}
    with model.callbacks.progress("generating", len(found) + len(missing), "answer") as bar:
        bar.update(len(found))
        while generator.busy:
            model.callbacks.check()
            ended = {
                numbers[update.request]: _kept(update.completion, missing[numbers[update.request]])
                for update in generator.step()
                if update.completion is not None
            }
            if ended:
                model.remembered.put(ended)
                found |= ended
                bar.update(len(ended))
    return [
        Answer.of(_generated(request.args[0], one, found[key]), model.think_end)
        for request, one, key in zip(requests, asked, keys, strict=True)
    ]


def _requests(model: Respondent, encoder: RequestEncoder, requests: Sequence[Instance]) -> list[Request]:
    """What the generator is asked. Prompts that leave no room for the answer lose their beginning."""
    texts = list(dict.fromkeys(request.args[0] for request in requests))
    prompts = dict(zip(texts, encoder.encode(texts), strict=True))
    seeds = RequestSeeds(model.seed)
    asked, longer = [], 0
    for request in requests:
        prompt = prompts[request.args[0]]
        opened = ends_in_thinking(request.args[0])
        settings = model.settings.of(request, opened)
        fitted = prompt[-(model.max_length - settings.max_tokens) :]
        longer += len(fitted) < len(prompt)
        seed = seeds.next(tuple(fitted), request.args[1])
        asked.append(_request(model, fitted, settings, seed, opened=opened))
    if longer:
        model.callbacks.warn(
            f"{longer} of {len(requests)} prompts left no room for the answer and lost their beginning"
        )
    return asked


def _request(
    model: Respondent, prompt: list[int], settings: GenerationSettings, seed: int, *, opened: bool
) -> Request:
    """A stop string that is a special token, and so never part of a text, stops by its id."""
    special = set(model.tokenizer.all_special_tokens)
    ids = model.tokenizer.convert_tokens_to_ids([stop for stop in settings.stop if stop in special])
    budget = settings.max_tokens if settings.thinking_budget is None else settings.thinking_budget
    return Request(
        prompt,
        settings.max_tokens,
        settings.sampling(seed),
        model.stop_ids | set(ids),
        tuple(stop for stop in settings.stop if stop not in special),
        stop_after=model.think_end if model.think_end and opened else "",
        # One that cannot be used up leaves the thinking alone, and counts its tokens.
        thinking_budget=ThinkingBudget(budget, settings.thinking_grace) if opened else None,
    )


def _key(model: Respondent, request: Request) -> str:
    sampling, budget = request.sampling, request.thinking_budget
    return model.remembered.key(
        kind="generate",
        prompt=tokens_key(tuple(request.prompt_ids)),
        max_tokens=request.max_tokens,
        sampling=None
        if sampling.greedy
        else [sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed],
        stop_ids=sorted(request.stop_ids),
        stop=request.stop,
        stop_after=request.stop_after,
        budget=None if budget is None else [budget.tokens, budget.grace],
    )


def _kept(completion: Completion, request: Request) -> dict[str, Any]:
    """What is remembered of a completion: the fields of `Generated` that are not in the request."""
    answer_tokens = completion.answer_tokens
    if request.thinking_budget is None:
        answer_tokens = len(completion.token_ids) - (completion.token_ids[-1] in request.stop_ids)
    return {
        "text": completion.text,
        "cut": completion.finish_reason is FinishReason.LENGTH,
        "thinking_tokens": completion.thinking_tokens,
        "answer_tokens": answer_tokens,
        "forced": any(completion.forced),
    }


def _generated(prompt: str, request: Request, kept: Mapping[str, Any]) -> Generated:
    return Generated(
        opened=ends_in_thinking(prompt),
        temperature=request.sampling.temperature,
        seed=request.sampling.seed,
        **kept,
    )
