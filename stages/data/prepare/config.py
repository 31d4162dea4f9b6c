"""Settings of `nano2 data prepare`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from stages.common.config import Cosmetic, InputPath, Metavar, Panel, StageConfig
from stages.common.data.source_path import SourcePaths
from stages.common.sizes import Size


def parse_blend(value: object) -> object:
    """A blend from `NAME=WEIGHT,NAME=WEIGHT` as a flag gives it; a recipe's mapping is left as it is."""
    if not isinstance(value, str):
        return value
    blend: dict[str, str] = {}
    for item in value.split(","):
        name, equals, weight = item.rpartition("=")
        if not (name.strip() and equals):
            raise ValueError(f"{item!r} is not SOURCE=WEIGHT")
        if name.strip() in blend:
            raise ValueError(f"source {name.strip()!r} is given twice")
        blend[name.strip()] = weight
    return blend


Blend = Annotated[dict[str, float], BeforeValidator(parse_blend), Metavar("SOURCE=WEIGHT,...")]


class PrepareConfig(StageConfig):
    """Tokenize text and pack it into rows of one length, ready to train on.

    Duplicates and near-duplicates are removed across all sources, some documents are held out for validation, and
    documents are packed whole into rows wherever they fit. A document is <s> tokens </s>.
    """

    data: SourcePaths = Field(
        description="Text, with its weight in the blend: .txt, .jsonl, .parquet (or .gz), a directory, or a glob "
        "pattern. A source is called after its file or folder."
    )
    tokenizer: InputPath = Field(description="Tokenizer artifact, or any directory with a tokenizer.json.")
    seq_len: Size = Field(8192, ge=16, le=1 << 24, description="Tokens in a row.")
    text_field: str = Field(
        "text", description="Field that holds the text of jsonl, parquet and saved datasets."
    )
    phases: tuple[Blend, ...] = Field(
        (),
        description="Blends of a run's three phases, each SOURCE=WEIGHT,SOURCE=WEIGHT (in a recipe a mapping); if left "
        "out, all three are the weights of --data.",
    )
    seed: int = Field(0, ge=0, description="Chooses the held-out documents.")

    validation: Annotated[InputPath | None, Panel("Validation")] = Field(
        None, description="Text of the validation set; otherwise a part of each source is held out."
    )
    validation_fraction: Annotated[float, Panel("Validation")] = Field(
        0.005,
        ge=0,
        le=0.5,
        description="Share of each source's documents to hold out, when there is no --validation.",
    )

    duplicates: Annotated[Literal["near", "exact", "keep"], Panel("Duplicates")] = Field(
        "near", description="What to remove: near and exact duplicates, exact ones only, or nothing."
    )
    similarity: Annotated[float, Panel("Duplicates")] = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of word shingles from which documents are near-duplicates.",
    )
    permutations: Annotated[int, Panel("Duplicates")] = Field(
        128, ge=16, le=1024, description="MinHash permutations; more estimate the similarity better."
    )
    shingle_words: Annotated[int, Panel("Duplicates")] = Field(
        5, ge=1, le=100, description="Words in a shingle."
    )

    workers: Annotated[int | None, Cosmetic()] = Field(
        None, ge=1, description="Worker processes; by default one a CPU. The result does not depend on it."
    )
