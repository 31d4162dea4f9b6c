"""`nano2 serve`."""

from stages.common.stage import Stage
from stages.serve.config import ServeConfig

STAGE = Stage(
    name="serve", kind=None, config=ServeConfig, run="stages.serve.run:run", plan="stages.serve.plan:plan"
)
