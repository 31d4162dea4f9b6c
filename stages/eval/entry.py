"""Where `nano2 eval` begins: the environment is set before torch and lm-eval are imported, for they read it then."""

from evals import quiet
from stages.common.plan import Plan
from stages.common.stage import StageContext, StageResult
from stages.eval.config import EvalConfig


def run(config: EvalConfig, context: StageContext) -> StageResult:
    quiet.prepare()
    from stages.eval.run import run

    return run(config, context)


def plan(config: EvalConfig) -> Plan:
    quiet.prepare()
    from stages.eval.plan import plan

    return plan(config)
