"""The mesh that a plan is for, and what lies on each of its ranks beside what is trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from model.parallel.shape import MeshShape
from stages.common.ranks import ranks
from stages.common.training.settings import TrainingSettings

_assumed: ContextVar[int | None] = ContextVar("assumed", default=None)

_OF_A_MODEL = (
    "weights_bytes",
    "gradients_bytes",
    "optimizer_bytes",
    "models_bytes",
    "reference_bytes",
    "reward_model_bytes",
)
_OF_A_ROW = ("activations_bytes", "loss_bytes", "working_bytes")
_OF_A_STEP = ("kv_cache_bytes", "ssm_state_bytes", "conv_state_bytes", "rollout_states_bytes")


@contextmanager
def assumed_ranks(count: int) -> Iterator[None]:
    """Plans made in here are for so many ranks, whatever was started."""
    token = _assumed.set(count)
    try:
        yield
    finally:
        _assumed.reset(token)


def planned_mesh(settings: TrainingSettings) -> MeshShape | None:
    """Of the ranks that torchrun started; of as few as the settings ask for where it started none; None: one process.

    UsageError if the ranks cannot be arranged as the settings ask.
    """
    started = ranks()
    count = _assumed.get() or (started.size if started else None)
    context, tensor = settings.context_parallel, settings.tensor_parallel
    if count is None and context * tensor == 1:
        return None
    return MeshShape.of(count or context * tensor, context=context, tensor=tensor)


def on_each_rank(memory: Mapping[str, int], mesh: MeshShape | None) -> dict[str, int]:
    """Of what a stage holds beside what it trains, by names that end in what it is: models are spread over all ranks, the
    work on a row over those that read it, and what is generated over those that have rows of their own."""
    if mesh is None:
        return dict(memory)
    shares = {_OF_A_MODEL: mesh.ranks, _OF_A_ROW: mesh.context * mesh.tensor, _OF_A_STEP: mesh.data}
    return {
        name: size // next((share for endings, share in shares.items() if name.endswith(endings)), 1)
        for name, size in memory.items()
    }
