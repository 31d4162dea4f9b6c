"""The measurements. Each function is one, meant for a fresh process (`isolation.run_isolated`)."""

import errno
import gc
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from model.errors import PlanRefusedError
from stages.bench.process import set_up, timed
from stages.bench.train.job import Job
from stages.bench.train.points import Point
from stages.bench.train.sides import train
from stages.bench.train.stopwatch import Observer, Profiler, Stopwatch, Times
from stages.common.training.hardware import matrix_rate, synchronize, tell_matrix_rate, used_bytes
from stages.common.training.out_of_memory import is_out_of_memory

EXAMINED_STEPS = 2
MOST_OPERATIONS = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """Seconds of each timed step; peak bytes over what the process held before the model was built; loss and gradient norm
    of the first step. reserved_bytes: on a GPU, with what PyTorch's allocator held besides."""

    seconds: list[float]
    peak_bytes: int
    loss: float
    gradient_norm: float
    reserved_bytes: int = 0


@dataclass(frozen=True)
class Unfit:
    """Memory ran out."""

    reason: str


@dataclass(frozen=True)
class Operation:
    """An operation's own time in a step, without that of those which it calls."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Examined:
    """Of one step: seconds by phase and kind, and where it was profiled the longest operations and the seconds of all."""

    times: Times
    operations: list[Operation]
    operation_seconds: float


def measure_rates(precisions: Sequence[str], device: str, threads: int) -> dict[str, float]:
    """FLOP/s of a large matrix product by our linear layers' road, by precision."""
    set_up(threads)
    return {name: matrix_rate(torch.device(device), getattr(torch, name)) for name in precisions}


def measure_plain_rates(precisions: Sequence[str], device: str, threads: int) -> dict[str, float]:
    """The same of torch.mm, the road of other models: where bfloat16 is only emulated, it is many times slower."""
    set_up(threads)
    size = 4096 if device == "cuda" else 512
    rates = {}
    for name in precisions:
        a = torch.randn(size, size, device=device).to(getattr(torch, name))

        def product(a: Tensor = a) -> None:
            torch.mm(a, a)
            synchronize(a.device)

        product()
        rates[name] = 2.0 * size**3 / min(timed(product) for _ in range(3))
    return rates


def measure_point(job: Job, point: Point) -> Measured | Unfit:
    """`job.warmup` steps and `job.steps` timed ones."""
    _prepare(job)

    def measure() -> Measured:
        before = used_bytes(job.torch_device)
        first, *_ = steps = train(job, point, job.warmup + job.steps, Observer())
        seconds = [step.seconds for step in steps[job.warmup :]]
        peak = used_bytes(job.torch_device) - before
        reserved = torch.cuda.max_memory_reserved() if job.device == "cuda" else 0
        return Measured(seconds, peak, first.loss, first.gradient_norm, reserved)

    return _within_memory(job, measure)


def examine_point(job: Job, point: Point, trace: Path | None) -> Examined | Unfit:
    """Times by kind of some steps behind `job.warmup`, and in a run of its own the trace of one such step, if asked for."""
    _prepare(job)
    device = job.torch_device

    def examine() -> Examined:
        watch = Stopwatch(device, job.warmup, EXAMINED_STEPS)
        train(job, point, job.warmup + EXAMINED_STEPS, watch)
        times = {part: seconds / EXAMINED_STEPS for part, seconds in watch.times.items()}
        if trace is None:
            return Examined(times, [], 0.0)
        gc.collect()
        profiler = Profiler(device, job.warmup)
        train(job, point, job.warmup + 1, profiler)
        profiler.profile.export_chrome_trace(str(trace))
        operations = [
            Operation(item.key, item.count, 1e-6 * getattr(item, f"self_{_clock(device)}_time_total"))
            for item in profiler.profile.key_averages()
        ]
        operations.sort(key=lambda operation: operation.seconds, reverse=True)
        total = sum(operation.seconds for operation in operations)
        return Examined(times, operations[:MOST_OPERATIONS], total)

    return _within_memory(job, examine)


def _clock(device: torch.device) -> str:
    return "device" if device.type == "cuda" else "cpu"


def _prepare(job: Job) -> None:
    set_up(job.threads)
    for precision, rate in job.rates.items():
        tell_matrix_rate(job.torch_device, getattr(torch, precision), rate)


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """In here an allocation fails once this process has taken so many bytes more, rather than have the kernel kill what it
    likes least. Does nothing where the system does not say what a process holds."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    held = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(held.split()[1]) * 1024 + size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _within_memory(job: Job, work: Callable[[], T]) -> T | Unfit:
    try:
        with limited_memory(job.memory) if job.device == "cpu" else nullcontext():
            return work()
    except PlanRefusedError as error:  # of the training loop
        return Unfit(error.what)
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error) and getattr(error, "errno", None) != errno.ENOMEM:
            raise
        return Unfit(_first_line(error))


def _first_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else "out of memory"
