"""Grades an answer by the instructions of its prompt, as IFEval scores: strict and loose, by prompt and by instruction."""

from typing import Any, Literal, Self

from pydantic import PrivateAttr, ValidationError, model_validator

from evals.graders.grade import Grade
from evals.graders.instructions.kwargs import Kwargs
from evals.graders.instructions.registry import INSTRUCTIONS
from evals.graders.spec import GraderSpec
from model.chat.events import ParsedMessage
from model.config import describe


class Spec(GraderSpec):
    """instruction_id_list: which instructions; kwargs: what each is told, in the same order. strict: which reading the
    score takes. prompt: what `combination:repeat_prompt` repeats if its kwargs don't say."""

    name: Literal["instructions"]
    instruction_id_list: list[str]
    kwargs: list[dict[str, Any]]
    strict: bool = True
    prompt: str | None = None

    _told: list[Kwargs] = PrivateAttr()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.instruction_id_list:
            raise ValueError("instruction_id_list is empty")
        if len(self.kwargs) != len(self.instruction_id_list):
            raise ValueError(
                f"{len(self.instruction_id_list)} instructions, but {len(self.kwargs)} sets of kwargs"
            )
        self._told = [self._read(*pair) for pair in zip(self.instruction_id_list, self.kwargs, strict=True)]
        return self

    def _read(self, identifier: str, kwargs: dict[str, Any]) -> Kwargs:
        if identifier not in INSTRUCTIONS:
            raise ValueError(f"unknown instruction {identifier!r}")
        if identifier == "combination:repeat_prompt" and self.prompt:
            kwargs = {**kwargs, "prompt_to_repeat": kwargs.get("prompt_to_repeat") or self.prompt}
        try:
            return INSTRUCTIONS[identifier].kwargs.model_validate(kwargs)
        except ValidationError as error:
            raise ValueError(f"kwargs of {identifier}: {describe(error)}") from error

    def followed(self, text: str) -> list[bool]:
        """For each instruction, whether the text as it is follows it. An empty text follows none."""
        return [
            bool(text.strip()) and INSTRUCTIONS[identifier].check(text, told)
            for identifier, told in zip(self.instruction_id_list, self._told, strict=True)
        ]


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score: 1 if every instruction is followed, in the reading that the specification asks for. parts: that for both
    readings (`prompt_strict`, `prompt_loose`), and the share of instructions followed (`instruction_...`)."""
    strict = spec.followed(response.content)
    loose = list(strict)
    for text in other_readings(response.content):
        if all(loose):
            break
        loose = [one or other for one, other in zip(loose, spec.followed(text), strict=True)]
    asked = strict if spec.strict else loose
    missed = [identifier for identifier, ok in zip(spec.instruction_id_list, asked, strict=True) if not ok]
    return Grade(
        score=float(all(asked)),
        parts={
            "prompt_strict": float(all(strict)),
            "prompt_loose": float(all(loose)),
            "instruction_strict": sum(strict) / len(strict),
            "instruction_loose": sum(loose) / len(loose),
        },
        detail=f"not followed: {', '.join(missed)}" if missed else "all followed",
    )


def other_readings(text: str) -> list[str]:
    """The text with an introduction or a farewell taken off (first line, last line, both), and these and itself
    without asterisks."""
    lines = text.split("\n")
    shorter = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [*shorter, *(reading.replace("*", "") for reading in (text, *shorter))]
