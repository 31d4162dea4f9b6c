"""What a stage's `--plan` says before anything is paid for: size, work, memory by kind and time."""

from typing import Any

from pydantic import BaseModel, Field

PlanValue = str | int | float


class Plan(BaseModel, extra="forbid"):
    """The estimate of one run.

    `refusals` are certain obstacles (it cannot fit, a package is missing), each one sentence that names the
    setting to change; any of them refuses `--plan` and the run alike. `warnings` are what may go wrong.
    """

    title: str
    sections: dict[str, dict[str, PlanValue]] = Field(
        default_factory=dict, description="Heading to name to value; names ending in _bytes are bytes."
    )
    rows: list[dict[str, Any]] = Field(
        default_factory=list,
        description="A table, one object a row with the same keys: what may be made, or is done.",
    )
    peak_bytes: int | None = Field(None, description="Estimated peak memory of one device.")
    disk_bytes: int | None = Field(
        None, description="What OUT takes; a disk with less free space refuses the run."
    )
    seconds: float | None = Field(None, description="Estimated duration.")
    refusals: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
