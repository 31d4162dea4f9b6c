"""`nano2 merge`."""

from stages.common.stage import Stage
from stages.merge.config import MergeConfig

STAGE = Stage(
    name="merge",
    kind="model",
    config=MergeConfig,
    run="stages.merge.run:run",
    plan="stages.merge.plan:plan",
    before="evals.quiet:prepare",
    resumable=True,
)
