"""The way into `stages.bench.eval.run`: lm-eval's environment is set before lm-eval is imported."""

from evals import quiet
from stages.bench.eval.config import EvalBenchConfig
from stages.common.stage import StageContext, StageResult


def run(config: EvalBenchConfig, context: StageContext) -> StageResult:
    quiet.prepare()
    from stages.bench.eval.run import run as run_prepared

    return run_prepared(config, context)
