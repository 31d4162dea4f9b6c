"""`nano2 prune`."""

from stages.common.stage import Stage
from stages.prune.config import PruneConfig

STAGE = Stage(
    name="prune",
    kind="model",
    config=PruneConfig,
    run="stages.prune.run:run",
    plan="stages.prune.plan:plan",
    before="evals.quiet:prepare",
    resumable=True,
)
