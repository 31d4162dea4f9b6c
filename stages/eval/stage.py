"""`nano2 eval`."""

from stages.common.stage import Stage
from stages.eval.config import EvalConfig

STAGE = Stage(
    name="eval",
    kind="eval",
    config=EvalConfig,
    run="stages.eval.entry:run",
    plan="stages.eval.entry:plan",
    resumable=True,
)
