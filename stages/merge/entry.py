"""Where `nano2 merge` begins: lm-eval's environment is set before the libraries that read it are imported."""

from evals import quiet
from stages.common.plan import Plan
from stages.common.stage import StageContext, StageResult
from stages.merge.config import MergeConfig


def run(config: MergeConfig, context: StageContext) -> StageResult:
    quiet.prepare()
    from stages.merge.run import run

    return run(config, context)


def plan(config: MergeConfig) -> Plan:
    quiet.prepare()
    from stages.merge.plan import plan

    return plan(config)
