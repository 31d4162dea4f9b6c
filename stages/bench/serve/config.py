"""Settings of `nano2 bench serve`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.bench.settings import Counts
from stages.common.config import Cosmetic, ModelPath, Panel, StageConfig
from stages.common.sizes import Size

KEY_VARIABLE = "NANO2_API_KEY"
"""Where `nano2 serve` finds its key."""


class ServeBenchConfig(StageConfig):
    """Measure a server of text completions: time to first token, time between tokens, throughput.

    Either of a server that is running (--url), or of `nano2 serve`, which is started for it (-m). At each pair of --isl and
    --osl, each of --concurrency clients sends a request, reads its stream to the end and sends the next. Prompts are random
    token ids, greedily continued. Leave the machine alone meanwhile.
    """

    url: str | None = Field(None, description="Address of the server, such as http://localhost:8000.")
    model: ModelPath | None = Field(None, description="Model to start `nano2 serve` with.")
    api_key_env: Annotated[str | None, Cosmetic()] = Field(
        None,
        description=f"Environment variable with the server's API key; by default {KEY_VARIABLE}, if it is set.",
    )
    result: Path | None = Field(
        None, description="Result file to write the figures to as well, such as docs/bench/serve-cpu.json."
    )

    isl: Annotated[Counts, Panel("Load")] = Field(
        (64, 256), description="Tokens of a prompt (input sequence length), separated by commas."
    )
    osl: Annotated[Counts, Panel("Load")] = Field(
        (32,), description="Tokens of an answer (output sequence length)."
    )
    concurrency: Annotated[Counts, Panel("Load")] = Field(
        (1, 2, 4, 8), description="Clients that ask at the same time."
    )
    requests: Annotated[Size, Panel("Load")] = Field(
        32, ge=1, description="Requests that are measured at each point of the grid."
    )
    warmup: Annotated[Size, Panel("Load")] = Field(
        2, ge=0, description="Requests of each client before them, which do not count."
    )
    seed: Annotated[int, Panel("Load")] = Field(0, ge=0, description="Draws the prompts.")
    timeout: Annotated[float, Panel("Load")] = Field(
        600,
        gt=0,
        description="Seconds from a request to the end of its answer; it counts as an error behind that.",
    )

    slots: Annotated[int | None, Panel("Started server")] = Field(
        None, ge=1, description="Texts that it generates at a time; by default the largest concurrency."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Panel("Started server")] = Field(
        "auto", description="auto takes a GPU where there is one."
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address that begins with http:// or https://")
        return value.rstrip("/").removesuffix("/v1")

    @model_validator(mode="after")
    def _fits_together(self) -> "ServeBenchConfig":
        if (self.url is None) == (self.model is None):
            raise ValueError("give either url, of a server that is running, or model, to start one")
        if self.url is not None and (self.slots is not None or self.device != "auto"):
            raise ValueError("slots and device are for a server that is started; leave them out with url")
        for name in ("isl", "osl", "concurrency"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"a value is named twice in {name}")
        if self.requests < max(self.concurrency):
            raise ValueError(
                f"{self.requests} requests keep no {max(self.concurrency)} clients busy: raise requests"
            )
        return self
