"""What each kind of instruction is told: its `kwargs`, as pydantic models.

A key that is null counts as left out, since tables of all instructions' kwargs have such keys for most.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from evals.graders.instructions.language import LANGUAGES

Relation = Literal["at least", "less than"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, StringConstraints(pattern=re.compile(r"\S"))]


class Kwargs(BaseModel):
    """Instructions that are told nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return (
            {key: value for key, value in values.items() if value is not None}
            if isinstance(values, dict)
            else values
        )


class Keywords(Kwargs):
    keywords: list[Text] = Field(min_length=1)


class ForbiddenWords(Kwargs):
    forbidden_words: list[Text] = Field(min_length=1)


class KeywordFrequency(Kwargs):
    keyword: Text
    frequency: Count
    relation: Relation


class LetterFrequency(Kwargs):
    letter: str = Field(min_length=1, max_length=1)
    let_frequency: Count
    let_relation: Relation


class Language(Kwargs):
    language: str

    @field_validator("language")
    @classmethod
    def _can_be_told(cls, language: str) -> str:
        if language not in LANGUAGES:
            raise ValueError(f"langdetect does not know {language!r}")
        return language


class Sentences(Kwargs):
    num_sentences: Count
    relation: Relation


class Paragraphs(Kwargs):
    num_paragraphs: Positive


class Words(Kwargs):
    num_words: Count
    relation: Relation


class ParagraphFirstWord(Kwargs):
    num_paragraphs: Positive
    nth_paragraph: Positive
    first_word: Text

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.nth_paragraph > self.num_paragraphs:
            raise ValueError(f"nth_paragraph {self.nth_paragraph} of {self.num_paragraphs} paragraphs")
        return self


class Placeholders(Kwargs):
    num_placeholders: Count


class Postscript(Kwargs):
    postscript_marker: Text


class Bullets(Kwargs):
    num_bullets: Count


class Highlights(Kwargs):
    num_highlights: Count


class Sections(Kwargs):
    section_spliter: Text
    num_sections: Count


class Prompt(Kwargs):
    prompt_to_repeat: Text


class EndPhrase(Kwargs):
    end_phrase: Text


class CapitalWords(Kwargs):
    capital_frequency: Count
    capital_relation: Relation
