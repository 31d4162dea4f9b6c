"""`nano2 compare`: a look at artifacts that makes none. It takes seconds, and what it needs is kept in the evaluations."""

from stages.common.stage import Stage
from stages.compare.config import CompareConfig

STAGE = Stage(name="compare", kind=None, config=CompareConfig, run="stages.compare.run:run")
