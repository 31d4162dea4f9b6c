"""`nano2 extend-context`."""

from stages.common.stage import Stage
from stages.extend_context.config import ExtendContextConfig

STAGE = Stage(
    name="extend-context",
    kind="model",
    config=ExtendContextConfig,
    run="stages.extend_context.run:run",
    plan="stages.extend_context.plan:plan",
    resumable=True,
    on_ranks=True,
)
