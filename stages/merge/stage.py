"""`nano2 merge`."""

from stages.common.stage import Stage
from stages.merge.config import MergeConfig

STAGE = Stage(
    name="merge",
    kind="model",
    config=MergeConfig,
    run="stages.merge.entry:run",
    plan="stages.merge.entry:plan",
    resumable=True,
)
