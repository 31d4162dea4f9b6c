"""Where `nano2 compare` begins: the environment is set before lm-eval is imported, for it reads it then."""

from evals import quiet
from stages.common.stage import StageContext, StageResult
from stages.compare.config import CompareConfig


def run(config: CompareConfig, context: StageContext) -> StageResult:
    quiet.prepare()
    from stages.compare.run import run

    return run(config, context)
