"""`nano2 generate`: text from a model, on stdout as it appears; what it took goes to stderr."""

import sys
import time
from typing import Any

from evals.encoding import RequestEncoder
from model.chat.template import encode
from model.errors import ArtifactError, UsageError
from model.inference.generation import Completion, Generator, Request
from model.inference.sampling import SamplingParams
from model.inference.stopping import stop_token_ids
from model.inference.thinking import ThinkingBudget
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.reporter import Reporter
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.generate.config import GenerateConfig


def run(config: GenerateConfig, context: StageContext) -> StageResult:
    """`data` holds the texts with their token counts and how they ended."""
    prompt = _read_prompt(config)
    lm = load(config.model, device=resolve_device(config.device), dtype=config.dtype)
    tokenizer = load_tokenizer(config.model, lm.config.vocab_size)
    prompt_ids = _encode(config, tokenizer, prompt)
    wanted, longest = len(prompt_ids) + config.max_tokens, lm.config.max_position_embeddings
    if wanted > longest:
        context.reporter.warn(
            f"prompt and answer may have {wanted} tokens, the config says {longest}: the text may become worse behind that"
        )
    stop_ids = stop_token_ids(config.model, lm.config, tokenizer, chat=config.chat)
    generator = Generator(lm, tokenizer)
    for number in range(config.n):
        sampling = SamplingParams(config.temperature, config.top_p, config.top_k, config.seed + number)
        generator.add(
            Request(
                prompt_ids,
                config.max_tokens,
                sampling,
                stop_ids,
                config.stop,
                thinking_budget=_thinking_budget(config),
            )
        )
    started = time.perf_counter()
    completions = _generate(generator, config.n, context.reporter)
    seconds = time.perf_counter() - started
    tokens = sum(len(completion.token_ids) for completion in completions)
    endings = ", ".join(str(completion.finish_reason) for completion in completions)
    context.reporter.log(
        f"{len(prompt_ids)} tokens read, {tokens} generated, {tokens / seconds:.1f} tok/s; ended by {endings}"
    )
    return StageResult(
        data={
            "completions": [_describe(completion) for completion in completions],
            "prompt_tokens": len(prompt_ids),
            "tokens": tokens,
            "tok_per_s": tokens / seconds,
        }
    )


def _generate(generator: Generator, n: int, reporter: Reporter) -> list[Completion]:
    """One text is shown piece by piece, several one after the other when all are done."""
    texts = [""] * n
    completions: dict[int, Completion] = {}
    while generator.busy:
        for update in generator.step():
            texts[update.request] += update.text
            if n == 1 and update.text:
                reporter.output(update.text, end="")
            if update.completion is not None:
                completions[update.request] = update.completion
    if n == 1:
        if not texts[0].endswith("\n"):
            reporter.output("")
    else:
        for number, text in enumerate(texts, start=1):
            reporter.output(f"--- {number} of {n} ---\n{text}")
    return [completions[number] for number in range(n)]


def _thinking_budget(config: GenerateConfig) -> ThinkingBudget | None:
    if config.thinking_budget is None:
        return None
    if config.thinking_grace is None:
        return ThinkingBudget(config.thinking_budget)
    return ThinkingBudget(config.thinking_budget, config.thinking_grace)


def _describe(completion: Completion) -> dict[str, Any]:
    """`logprob` is that of the tokens which the model chose."""
    described = {
        "text": completion.text,
        "tokens": len(completion.token_ids),
        "logprob": sum(
            logprob
            for logprob, forced in zip(completion.logprobs, completion.forced, strict=True)
            if not forced
        ),
        "finish_reason": str(completion.finish_reason),
    }
    if completion.thinking_end is None:
        return described
    return described | {
        "thinking_tokens": completion.thinking_tokens,
        "answer_tokens": completion.answer_tokens,
        "thinking_closed_by": str(completion.thinking_end),
    }


def _read_prompt(config: GenerateConfig) -> str:
    """The prompt, less the one line end that a file or a shell puts behind it."""
    where = "--prompt"
    if config.prompt is not None:
        text = config.prompt
    else:
        where = str(config.prompt_file or "stdin")
        try:
            raw = config.prompt_file.read_bytes() if config.prompt_file else sys.stdin.buffer.read()
            text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"the prompt cannot be read ({error})", where=where, remedy="give a UTF-8 text"
            ) from error
    if not text:
        raise UsageError(
            "the prompt is empty",
            where=where,
            remedy="give some text; for a text from nothing, the model's <s>",
        )
    return text


def _encode(config: GenerateConfig, tokenizer: Any, prompt: str) -> list[int]:
    if not config.chat:
        return RequestEncoder(tokenizer).encode([prompt])[0]
    messages = [{"role": "user", "content": prompt}]
    if config.system is not None:
        messages.insert(0, {"role": "system", "content": config.system})
    return encode(tokenizer, messages, thinking=config.thinking, add_generation_prompt=True).ids
