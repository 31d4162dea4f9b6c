"""Settings of `nano2 data convert`."""

from typing import Annotated, Literal

from pydantic import Field

from stages.common.config import InputPath, Short, StageConfig

FormatName = Literal[
    "gsm8k",
    "math",
    "svamp",
    "aqua",
    "commonsenseqa",
    "mbpp",
    "self-instruct",
    "dolly",
    "toolrl",
    "reason-tool-use",
    "glaive",
    "taskmaster4",
    "react-hotpotqa",
    "xlam",
    "preference",
    "helpsteer3",
    "taskmaster-rewards",
]


class ConvertConfig(StageConfig):
    """Turn other formats of conversations into chat jsonl, ready for `nano2 sft` and `nano2 eval`, or into pairs.

    Worked solutions become reasoning, tool calls are written in OpenAI's form, and where a row has a right answer,
    the line gets a grader. Preferences become jsonl of pairs, for `nano2 dpo` and `nano2 reward`.
    """

    format: FormatName = Field(description="What the rows are.")
    data: Annotated[tuple[InputPath, ...], Short("d")] = Field(
        min_length=1, description="Rows: .jsonl or .jsonl.gz, or a directory of them."
    )
    skip_bad: int = Field(0, ge=0, description="Bad rows to leave out, each named, before giving up.")
