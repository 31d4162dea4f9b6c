"""`nano2 dpo`."""

from stages.common.stage import Stage
from stages.dpo.config import DpoConfig

STAGE = Stage(
    name="dpo",
    kind="model",
    config=DpoConfig,
    run="stages.dpo.run:run",
    plan="stages.dpo.plan:plan",
    resumable=True,
)
