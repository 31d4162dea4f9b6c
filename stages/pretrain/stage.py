"""`nano2 pretrain`."""

from stages.common.stage import Stage
from stages.pretrain.config import PretrainConfig

STAGE = Stage(
    name="pretrain",
    kind="model",
    config=PretrainConfig,
    run="stages.pretrain.run:run",
    plan="stages.pretrain.plan:plan",
    resumable=True,
    on_ranks=True,
)
