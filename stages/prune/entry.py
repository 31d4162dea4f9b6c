"""Where `nano2 prune` begins: the environment is set before torch and lm-eval are imported, for they read it then."""

from evals import quiet
from stages.common.plan import Plan
from stages.common.stage import StageContext, StageResult
from stages.prune.config import PruneConfig


def run(config: PruneConfig, context: StageContext) -> StageResult:
    quiet.prepare()
    from stages.prune.run import run

    return run(config, context)


def plan(config: PruneConfig) -> Plan:
    quiet.prepare()
    from stages.prune.plan import plan

    return plan(config)
