"""Settings of `nano2 data longqa`."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.common.config import Cosmetic, InputPath, ModelPath, Panel, StageConfig
from stages.common.data.source_path import SourcePaths
from stages.common.sizes import Size


class LongqaConfig(StageConfig):
    """Append question-answer pairs to long documents, for training on long contexts.

    A document of at least --min-tokens is split into chunks, a share of the chunks is sampled, one question and its
    answer are written from each, and all pairs are appended to the document's end. OUT is text: pack it with
    `nano2 data prepare -d OUT`.
    """

    data: SourcePaths = Field(
        description="Text: .txt, .jsonl, .parquet (or .gz), a directory, or a glob pattern."
    )
    tokenizer: InputPath = Field(description="Tokenizer artifact that counts the tokens.")
    text_field: str = Field(
        "text", description="Field that holds the text of jsonl, parquet and saved datasets."
    )
    min_tokens: Size = Field(
        32_768, ge=16, description="Shorter documents get no pairs. Counted with <s> and </s>, as all here."
    )
    chunk_tokens: Size = Field(1024, ge=16, description="Tokens in a chunk; the last may have half more.")
    share: float = Field(
        0.1, gt=0, le=1, description="Share of a document's chunks that get a pair; one at least."
    )
    seed: int = Field(0, ge=0, description="Chooses chunks, questions and samples of a model.")
    keep_short: bool = Field(
        False, description="Write documents under min_tokens unchanged; otherwise they are left out."
    )
    max_documents: Size | None = Field(
        None, ge=1, description="Stop after so many documents with pairs, for a trial or a bounded bill."
    )
    compress: bool = Field(False, description="Write documents.jsonl.gz.")
    workers: Annotated[int | None, Cosmetic()] = Field(
        None,
        ge=1,
        description="Processes that tokenize; by default one a CPU. The result does not depend on it.",
    )

    document_tokens: Annotated[Size | None, Panel("Lengths")] = Field(
        None,
        ge=64,
        description="Cut longer documents into pieces of at most so many tokens, at the ends of paragraphs; each piece "
        "is a document then.",
    )
    max_tokens: Annotated[Size | None, Panel("Lengths")] = Field(
        None,
        ge=64,
        description="Tokens that a document and its pairs may have: the seq_len of `data prepare`, if it shall cut "
        "none. Pairs beyond it fall out, and documents that are longer without any are left out.",
    )

    writer: Annotated[Literal["rules", "model", "endpoint"], Panel("Writer")] = Field(
        "rules",
        description="Who writes the pairs: rules (quotations, no model), a model artifact, or an OpenAI-compatible "
        "endpoint.",
    )
    model: Annotated[ModelPath | None, Panel("Writer")] = Field(
        None, description="Model that writes the pairs (writer model)."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Panel("Writer")] = Field(
        "auto", description="Where that model runs; auto takes a GPU where there is one."
    )
    base_url: Annotated[str | None, Panel("Writer"), Cosmetic()] = Field(
        None, description="Address of the endpoint, such as http://localhost:8000/v1."
    )
    endpoint_model: Annotated[str | None, Panel("Writer")] = Field(
        None, min_length=1, description="Name that the endpoint knows its model by."
    )
    api_key_env: Annotated[str | None, Panel("Writer"), Cosmetic()] = Field(
        None, description="Environment variable with the endpoint's API key; if left out, no key is sent."
    )
    temperature: Annotated[float, Panel("Writer")] = Field(
        0.7, ge=0, le=2, description="Of model and endpoint; 0 always takes the most probable token."
    )
    reply_tokens: Annotated[Size, Panel("Writer")] = Field(
        512, ge=16, description="Tokens that model and endpoint may write for a pair."
    )
    concurrency: Annotated[int, Panel("Writer"), Cosmetic()] = Field(
        8, ge=1, le=1024, description="Pairs that model and endpoint write at the same time."
    )
    timeout: Annotated[float, Panel("Writer"), Cosmetic()] = Field(
        120, gt=0, description="Seconds to wait for the endpoint's answer to a request."
    )
    retries: Annotated[int, Panel("Writer"), Cosmetic()] = Field(
        4,
        ge=0,
        le=100,
        description="Times that a failed or unusable answer of the endpoint is asked for again, after a growing wait.",
    )
    max_failed_share: Annotated[float, Panel("Writer"), Cosmetic()] = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of chunks without a usable answer of model or endpoint from which the run stops.",
    )

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address that begins with http:// or https://")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "LongqaConfig":
        lengths = [
            (name, value)
            for name in ("chunk_tokens", "min_tokens", "document_tokens", "max_tokens")
            if (value := getattr(self, name)) is not None
        ]
        for (smaller, small), (larger, large) in pairwise(lengths):
            if small > large:
                raise ValueError(f"{smaller} ({small}) is more than {larger} ({large})")
        for name, owner in (
            ("model", "model"),
            ("base_url", "endpoint"),
            ("endpoint_model", "endpoint"),
            ("api_key_env", "endpoint"),
        ):
            given = getattr(self, name) is not None
            if given and self.writer != owner:
                raise ValueError(f"{name} is given, and the writer is {self.writer}; choose writer {owner}")
            if not given and self.writer == owner and name != "api_key_env":
                raise ValueError(f"the writer {owner} needs {name}")
        return self
