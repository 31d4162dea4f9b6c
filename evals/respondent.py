"""A model that is asked questions, and what is the same for all that it is asked."""

from dataclasses import dataclass
from typing import Any

from evals.callbacks import Callbacks
from evals.remembered import Remembered
from evals.request_settings import RequestSettings
from model.hybrid import HybridLM


@dataclass(frozen=True)
class Respondent:
    """stop_ids: tokens that end an answer. max_length: tokens that the model reads. batch_rows: answers that are generated
    at a time. think_end: the text that ends the thinking of a reasoning model; None if answers hold no thinking."""

    lm: HybridLM
    tokenizer: Any
    stop_ids: frozenset[int]
    max_length: int
    batch_rows: int
    think_end: str | None
    seed: int
    settings: RequestSettings
    remembered: Remembered
    callbacks: Callbacks
