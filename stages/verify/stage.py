"""`nano2 verify`."""

from stages.common.stage import Stage
from stages.verify.config import VerifyConfig

STAGE = Stage(
    name="verify", kind=None, config=VerifyConfig, run="stages.verify.run:run", plan="stages.verify.plan:plan"
)
