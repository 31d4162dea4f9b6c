"""`nano2 sft`."""

from stages.common.stage import Stage
from stages.sft.config import SftConfig

STAGE = Stage(
    name="sft",
    kind="model",
    config=SftConfig,
    run="stages.sft.run:run",
    plan="stages.sft.plan:plan",
    resumable=True,
    on_ranks=True,
)
