"""`nano2 generate`."""

from stages.common.stage import Stage
from stages.generate.config import GenerateConfig

STAGE = Stage(name="generate", kind=None, config=GenerateConfig, run="stages.generate.run:run")
