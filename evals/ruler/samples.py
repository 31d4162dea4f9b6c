"""RULER's samples (Hsieh et al. 2024), made for a tokenizer and a length.

    samples("niah_single_2", tokenizer, length=4096, count=100, seed=42)

Twelve of its thirteen tasks; the one that is missing, qa_2, needs HotpotQA. docs/ruler.md says what each is made of and
what differs from the original. The samples are a function of the arguments alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from evals.ruler.drafts import Draft, Fitted, fit, fits
from evals.ruler.frequency import coded_words, common_words
from evals.ruler.needles import NeedleTask
from evals.ruler.reading import read_paragraphs
from evals.ruler.setting import Setting
from evals.ruler.tokens import TokenCounter
from evals.ruler.tracking import track_variables
from model.errors import UsageError

RESERVED = 50
"""Tokens that are left to the chat template, as in the report's evaluation (section 3.3)."""

SEED = 42
_TOGETHER = 8
"""Samples that are made at a time."""


@dataclass(frozen=True)
class RulerSample:
    """What is asked, and what a right answer holds.

    prompt: the user's turn. answer_prefix: the beginning of the answer, which the model continues; a space stands between.
    answers: expected texts; for qa_1 any of them will do. depths: shares of the haystack before the needle: one for each
    answer, for qa_1 one in all, none where there is no place to speak of (cwe, fwe).
    length: what was asked for, in tokens. prompt_tokens: of prompt, space and answer prefix, with those that the tokenizer
    puts around a text. answer_tokens: as many may be generated; both and `reserved` together are at most `length`.
    """

    task: str
    index: int
    prompt: str
    answer_prefix: str
    answers: tuple[str, ...]
    depths: tuple[float, ...]
    length: int
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class RulerTask:
    """make: from a setting to a function that drafts sample i. answer_tokens: as published."""

    make: Callable[[Setting], Callable[[int], Draft]]
    answer_tokens: int = 128


TASKS = {
    "niah_single_1": RulerTask(NeedleTask("noise")),
    "niah_single_2": RulerTask(NeedleTask("essays")),
    "niah_single_3": RulerTask(NeedleTask("essays", value="uuid")),
    "niah_multikey_1": RulerTask(NeedleTask("essays", keys=4)),
    "niah_multikey_2": RulerTask(NeedleTask("needles")),
    "niah_multikey_3": RulerTask(NeedleTask("needles", key="uuid", value="uuid")),
    "niah_multivalue": RulerTask(NeedleTask("essays", values=4)),
    "niah_multiquery": RulerTask(NeedleTask("essays", keys=4, asked=4)),
    "vt": RulerTask(track_variables, 30),
    "cwe": RulerTask(common_words, 120),
    "fwe": RulerTask(coded_words, 50),
    "qa_1": RulerTask(read_paragraphs, 32),
}


def samples(
    task: str,
    tokenizer: Any,
    length: int,
    count: int,
    seed: int = SEED,
    *,
    reserved: int = RESERVED,
    depths: Sequence[float] = (),
) -> list[RulerSample]:
    """`count` samples of a task, each as near to `length` tokens as its filling allows.

    tokenizer: transformers' of the model. reserved: tokens left to the chat template. depths: shares from 0 to 1; sample
    after sample puts what is asked for at the next of them, in place of a drawn depth (needle tasks and qa_1).
    Raises UsageError for settings out of range and for a length that is too small or too large for the task.
    """
    _check(task, length, count, seed, reserved, depths)
    counter = TokenCounter(tokenizer)

    def prepared(length: int) -> tuple[Setting, Callable[[int], Draft]]:
        published = TASKS[task].answer_tokens
        setting = Setting(task, length, reserved, published, seed, counter, tuple(map(float, depths)))
        return setting, TASKS[task].make(setting)

    setting, make = prepared(length)
    made: list[RulerSample] = []
    too_long: list[int] = []
    for start in range(0, count, _TOGETHER):
        indices = range(start, min(start + _TOGETHER, count))
        drafts = [make(index) for index in indices]
        budgets = [setting.budget(draft.answer_text) for draft in drafts]
        for index, draft, fitted in zip(indices, drafts, fit(drafts, budgets, counter), strict=True):
            if fitted is None:
                too_long.append(index)
            else:
                made.append(_sample(setting, index, draft, fitted))
    if too_long:

        def enough(longer: int) -> bool:
            setting, make = prepared(longer)
            drafts = [make(index) for index in too_long]
            return fits(drafts, [setting.budget(draft.answer_text) for draft in drafts], counter)

        least = _least_length(length, enough)
        raise UsageError(
            f"{length} tokens are too few: with this tokenizer {least} are the least",
            where=f"RULER task {task}",
            remedy=f"give a length of {least} or more, or leave the task out; nano2_ruler_short has those for short lengths",
        )
    return made


def _sample(setting: Setting, index: int, draft: Draft, fitted: Fitted) -> RulerSample:
    if fitted.size == draft.most:
        raise UsageError(
            f"there is material for about {fitted.tokens} tokens, not for {setting.length}",
            where=f"RULER task {setting.task}",
            remedy="give a smaller length, or leave the task out",
        )
    return RulerSample(
        task=setting.task,
        index=index,
        prompt=fitted.prompt,
        answer_prefix=draft.answer_prefix,
        answers=draft.answers,
        depths=fitted.depths,
        length=setting.length,
        prompt_tokens=fitted.tokens,
        answer_tokens=setting.room(draft.answer_text),
    )


def _least_length(length: int, enough: Callable[[int], bool]) -> int:
    """The least length above `length` that is enough."""
    low, high = length + 1, 2 * length
    while not enough(high):
        low, high = high + 1, 2 * high
    candidates = range(low, high)
    return low + bisect_left(candidates, True, key=enough)


def _check(task: str, length: int, count: int, seed: int, reserved: int, depths: Sequence[float]) -> None:
    refuse = partial(UsageError, where=f"RULER task {task}")
    if task not in TASKS:
        raise refuse("there is no such task", remedy=f"choose of {', '.join(TASKS)}")
    for name, value, least in (
        ("length", length, 1),
        ("count", count, 1),
        ("reserved", reserved, 0),
        ("seed", seed, 0),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise refuse(f"{name} is {value!r}", remedy=f"give a whole number from {least} on")
    if reserved >= length:
        raise refuse(
            f"{reserved} of {length} tokens are reserved", remedy="reserve less, or give a greater length"
        )
    shares = isinstance(depths, list | tuple) and all(
        isinstance(depth, int | float) and 0 <= depth <= 1 for depth in depths
    )
    if not shares:
        raise refuse(
            f"depths is {depths!r}", remedy="give shares of the text from 0 to 1, such as 0, 0.5 and 1"
        )
