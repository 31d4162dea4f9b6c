"""`nano2 grpo`."""

from stages.common.stage import Stage
from stages.grpo.config import GrpoConfig

STAGE = Stage(
    name="grpo",
    kind="model",
    config=GrpoConfig,
    run="stages.grpo.run:run",
    plan="stages.grpo.plan:plan",
    resumable=True,
)
