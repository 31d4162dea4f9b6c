"""`nano2 distill`."""

from stages.common.stage import Stage
from stages.distill.config import DistillConfig

STAGE = Stage(
    name="distill",
    kind="model",
    config=DistillConfig,
    run="stages.distill.run:run",
    plan="stages.distill.plan:plan",
    resumable=True,
)
