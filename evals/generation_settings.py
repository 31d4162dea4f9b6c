"""The `generation_kwargs` of a task, read strictly: what has no effect here is refused instead of dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.errors import UsageError
from model.inference.sampling import SamplingParams

DEFAULT_MAX_TOKENS = 256
"""lm-eval's default."""

DEFAULT_GRACE = 500
"""Tokens that thinking may go on behind its budget, up to the next line end (report, section 3.4)."""

THINKING_SAMPLING: Mapping[str, Any] = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
"""How the report decodes with thinking on; with thinking off it decodes greedily (the model card)."""

_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k")
_NEUTRAL: dict[str, Any] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "use_cache": True,
}
"""Settings of other backends, each with the value that changes nothing."""


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate for one request. `temperature` 0 is greedy. `max_tokens` counts thinking and answer.

    thinking_budget: tokens of thinking after which it is closed at the next line end, at the latest `thinking_grace`
    tokens on; None lets it go on. max_turns: of an episode, where `max_tokens` are those of all turns together.
    """

    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    thinking_budget: int | None = None
    thinking_grace: int = DEFAULT_GRACE
    max_turns: int | None = None

    def sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(self.temperature, self.top_p, self.top_k, seed)

    @classmethod
    def of(
        cls, kwargs: Mapping[str, Any], task: str | None, default_sampling: Mapping[str, Any] | None = None
    ) -> "GenerationSettings":
        """From lm-eval's dictionary. UsageError names a key that is unknown or has a value that is not supported.

        default_sampling: what a dictionary that says nothing of sampling gets; None: greedy.
        """
        rest = {key: value for key, value in kwargs.items() if value is not None}
        if default_sampling and not any(name in rest for name in _SAMPLING):
            rest |= default_sampling
        until = rest.pop("until", None) or []
        if not isinstance(until, str | list | tuple):
            raise UsageError(
                f"until is {until!r}, neither a text nor a list of texts",
                where=f"task {task}" if task else "generation_kwargs",
                remedy="give the texts that end an answer",
            )
        limits = [rest.pop(name) for name in _MAX_TOKENS if name in rest]
        temperature = rest.pop("temperature", None)
        do_sample = rest.pop("do_sample", bool(temperature))
        top_p, top_k = rest.pop("top_p", 1.0), rest.pop("top_k", 0)
        budget, grace = rest.pop("thinking_budget", None), rest.pop("thinking_grace", DEFAULT_GRACE)
        max_turns = rest.pop("max_turns", None)
        for name, value in rest.items():
            if name not in _NEUTRAL or value != _NEUTRAL[name]:
                raise UsageError(
                    f"generation setting {name} = {value!r} is not supported",
                    where=f"task {task}" if task else "generation_kwargs",
                    remedy="take it out; known are until, do_sample, temperature, top_p, top_k, max_gen_toks, "
                    "thinking_budget, thinking_grace and max_turns",
                )
        try:
            return cls(
                stop=(until,) if isinstance(until, str) else tuple(map(str, until)),
                max_tokens=int(limits[0]) if limits else DEFAULT_MAX_TOKENS,
                temperature=float(1.0 if temperature is None else temperature) if do_sample else 0.0,
                top_p=float(top_p),
                top_k=int(top_k),
                thinking_budget=None if budget is None else int(budget),
                thinking_grace=int(grace),
                max_turns=None if max_turns is None else int(max_turns),
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"a generation setting is no number ({error})",
                where=f"task {task}" if task else "generation_kwargs",
                remedy="correct it in the task's generation_kwargs, or with --gen",
            ) from error
