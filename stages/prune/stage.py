"""`nano2 prune`."""

from stages.common.stage import Stage
from stages.prune.config import PruneConfig

STAGE = Stage(
    name="prune",
    kind="model",
    config=PruneConfig,
    run="stages.prune.entry:run",
    plan="stages.prune.entry:plan",
    resumable=True,
)
