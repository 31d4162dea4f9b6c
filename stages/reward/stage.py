"""`nano2 reward`."""

from stages.common.stage import Stage
from stages.reward.config import RewardConfig

STAGE = Stage(
    name="reward",
    kind="reward",
    config=RewardConfig,
    run="stages.reward.run:run",
    plan="stages.reward.plan:plan",
    resumable=True,
)
