"""The commands of `nano2 bench`."""

from stages.bench.cpu.config import CpuBenchConfig
from stages.common.stage import Stage

CPU = Stage(name="bench cpu", kind=None, config=CpuBenchConfig, run="stages.bench.cpu.run:run")
