"""The commands of `nano2 bench`."""

from stages.bench.cpu.config import CpuBenchConfig
from stages.bench.eval.config import EvalBenchConfig
from stages.bench.serve.config import ServeBenchConfig
from stages.bench.train.config import TrainBenchConfig
from stages.common.stage import Stage

CPU = Stage(name="bench cpu", kind=None, config=CpuBenchConfig, run="stages.bench.cpu.run:run")
EVAL = Stage(
    name="bench eval",
    kind=None,
    config=EvalBenchConfig,
    run="stages.bench.eval.run:run",
    before="evals.quiet:prepare",
)
SERVE = Stage(name="bench serve", kind="bench", config=ServeBenchConfig, run="stages.bench.serve.run:run")
TRAIN = Stage(
    name="bench train",
    kind="bench",
    config=TrainBenchConfig,
    run="stages.bench.train.run:run",
    plan="stages.bench.train.plan:plan",
)
