"""The `generation_kwargs` of a task, read strictly: what has no effect here is refused instead of dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.errors import UsageError
from model.inference.sampling import SamplingParams

DEFAULT_MAX_TOKENS = 256
"""lm-eval's default."""

_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
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
    """How to generate for one request. `temperature` 0 is greedy."""

    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int

    def sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(self.temperature, self.top_p, self.top_k, seed)

    @classmethod
    def of(cls, kwargs: Mapping[str, Any], task: str | None) -> "GenerationSettings":
        """From lm-eval's dictionary. UsageError names a key that is unknown or has a value that is not supported."""
        rest = dict(kwargs)
        until = rest.pop("until", None) or []
        limits = [value for name in _MAX_TOKENS if (value := rest.pop(name, None)) is not None]
        temperature = rest.pop("temperature", None)
        do_sample = rest.pop("do_sample", None)
        if do_sample is None:
            do_sample = bool(temperature)
        top_p, top_k = rest.pop("top_p", None), rest.pop("top_k", None)
        for name, value in rest.items():
            if name not in _NEUTRAL or value != _NEUTRAL[name]:
                raise UsageError(
                    f"generation setting {name} = {value!r} is not supported",
                    where=f"task {task}" if task else "generation_kwargs",
                    remedy="take it out; known are until, do_sample, temperature, top_p, top_k and max_gen_toks",
                )
        try:
            return cls(
                stop=(until,) if isinstance(until, str) else tuple(map(str, until)),
                max_tokens=int(limits[0]) if limits else DEFAULT_MAX_TOKENS,
                temperature=float(1.0 if temperature is None else temperature) if do_sample else 0.0,
                top_p=1.0 if top_p is None else float(top_p),
                top_k=0 if top_k is None else int(top_k),
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"a generation setting is no number ({error})", where=f"task {task}" if task else ""
            ) from error
