"""Settings of `nano2 serve`."""

from typing import Annotated, Literal

from pydantic import Field

from stages.common.config import ModelPath, Panel, StageConfig
from stages.common.sizes import ByteSize, Size

API_KEY_VARIABLE = "NANO2_API_KEY"


class ServeConfig(StageConfig):
    """Answer requests in the form of OpenAI's API: chat and text completions, streamed or whole.

    A line on stdout names the URL once requests are taken; with --json it is one JSON object. SIGTERM or Ctrl-C ends the
    server once what is going on has been answered.
    """

    model: ModelPath = Field(description="Model to serve.")
    name: str | None = Field(
        None, min_length=1, description="Name that requests call the model by; by default its directory's."
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 for every network of the machine."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_key: str | None = Field(
        None,
        min_length=1,
        description=f"Key that requests must bring; ${API_KEY_VARIABLE} keeps it out of the process list.",
    )
    drain_seconds: float = Field(
        30, ge=0, description="Seconds that open requests get to end in once the server is told to stop."
    )

    slots: Annotated[int, Panel("Limits")] = Field(16, ge=1, description="Texts generated at a time.")
    max_queue: Annotated[int, Panel("Limits")] = Field(
        256, ge=1, description="Texts that may wait; more are refused with status 429."
    )
    max_length: Annotated[Size | None, Panel("Limits")] = Field(
        None,
        ge=2,
        description="Tokens of prompt and answer together; by default those the model was made for.",
    )
    max_tokens: Annotated[Size | None, Panel("Limits")] = Field(
        None, ge=1, description="Tokens of one answer; by default as many as fit behind the prompt."
    )
    max_body: Annotated[ByteSize, Panel("Limits")] = Field(
        4 * 2**20, ge=1, description="Size of a request; a larger one is refused with status 413."
    )
    request_seconds: Annotated[float, Panel("Limits")] = Field(
        600, gt=0, description="Seconds from a request to the end of its answer; status 504 behind that."
    )

    prefill_chunk: Annotated[Size, Panel("Hardware")] = Field(
        2048, ge=1, description="Tokens of a prompt that are read at a time."
    )
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Panel("Hardware")] = Field(
        None, description="Load the weights so; by default as they are stored."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Panel("Hardware")] = Field(
        "auto", description="auto takes a GPU where there is one."
    )
