"""`nano2 eval`."""

from stages.common.stage import Stage
from stages.eval.config import EvalConfig

STAGE = Stage(
    name="eval",
    kind="eval",
    config=EvalConfig,
    run="stages.eval.run:run",
    plan="stages.eval.plan:plan",
    before="evals.quiet:prepare",
    resumable=True,
)
