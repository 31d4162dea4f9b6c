"""The training step of either side, with the same weights, rows, optimizer settings and clipping."""

from stages.bench.train import hf, nano2
from stages.bench.train.job import Job, Step
from stages.bench.train.points import Point
from stages.bench.train.stopwatch import Observer


def train(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    """So many optimizer steps of a side."""
    return (nano2 if point.side == "nano2" else hf).train(job, point, steps, observer)
