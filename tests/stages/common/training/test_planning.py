"""Plans of training runs: what a refusal suggests does fit, meshes are shown and refused, recomputed work is counted."""

import re

import pytest

from model.config import HybridConfig
from model.errors import UsageError
from model.parallel.shape import MeshShape
from stages.common.plan import Plan
from stages.common.training.hardware import Accelerator, assumed_accelerator
from stages.common.training.memory import training_memory
from stages.common.training.planned_mesh import assumed_ranks, on_each_rank
from stages.sft.config import SftConfig
from stages.sft.plan import plan as sft_plan

PRESET = "mini-8m"


def planned(memory: int | None = None, ranks: int | None = None, **changes: object) -> Plan:
    """Of a run of mini-8m on rows of 2,048 tokens, eight a step, on a device with so much memory."""
    settings = {"model": "m", "data": ["d"], "preset": PRESET, "batch_tokens": 8 * 2048, "seq_len": 2048}
    config = SftConfig.model_validate(settings | changes)
    with assumed_accelerator(Accelerator("X", memory=memory or 2**40, flops_per_s=1e12)):
        if ranks is None:
            return sft_plan(config)
        with assumed_ranks(ranks):
            return sft_plan(config)


def peak(**changes: object) -> int:
    found = planned(**changes).peak_bytes  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_refusal_names_the_rows_that_fit() -> None:
    (refusal,) = planned(memory=peak(micro_batch=2), micro_batch=4).refusals
    assert "--micro-batch 2, or --recompute " in refusal
    assert not planned(memory=peak(micro_batch=2), micro_batch=2).refusals


def test_a_refusal_names_the_fewest_kinds_that_fit() -> None:
    (refusal,) = planned(memory=peak(recompute="mamba"), recompute="").refusals
    assert "; --recompute mamba, or 2 ranks" in refusal
    (refusal,) = planned(memory=peak(recompute="mamba,mlp")).refusals
    assert "; --recompute mamba,mlp, or " in refusal
    (refusal,) = planned(memory=peak(recompute="mamba,mlp"), recompute="attention").refusals
    assert "; --recompute mamba,attention, or " in refusal or "; --recompute mamba,attention,mlp" in refusal


def test_a_refusal_names_all_of_it_together_where_it_takes_that() -> None:
    both = {"micro_batch": 1, "recompute": "mamba,attention,mlp"}
    (refusal,) = planned(memory=peak(**both), micro_batch=4).refusals
    assert "; --micro-batch 1 --recompute mamba,attention,mlp, or " in refusal
    (refusal,) = planned(memory=peak(**both, precision="bfloat16"), micro_batch=4).refusals
    assert "; --micro-batch 1 --recompute mamba,attention,mlp --precision bfloat16, or " in refusal


def test_the_ranks_that_a_refusal_names_do_fit() -> None:
    recompute, memory = "mamba,attention,mlp", peak(recompute="mamba,attention,mlp", precision="bfloat16") - 1
    changes = {"recompute": recompute, "precision": "bfloat16"}
    (refusal,) = planned(memory=memory, **changes).refusals
    named = re.search(r"; (\d+) ranks(?: and --context-parallel (\d+))? would fit", refusal)
    assert named, refusal
    ranks, context = int(named[1]), int(named[2] or 1)
    assert not planned(memory=memory, ranks=ranks, context_parallel=context, **changes).refusals


def test_what_nothing_helps_is_said() -> None:
    (refusal,) = planned(memory=10**6).refusals
    assert refusal.endswith("choose a smaller model or shorter rows")


def test_a_mesh_is_shown_and_its_time_is_shared() -> None:
    alone, shared = planned(), planned(ranks=4, context_parallel=2)
    assert "Mesh" not in alone.sections
    assert shared.sections["Mesh"] == {"ranks": 4, "data": 2, "context": 2, "tensor": 1}
    assert shared.title.endswith("on 4 x cuda")
    assert alone.seconds is not None
    assert shared.seconds == pytest.approx(alone.seconds / 4)
    idle = planned(ranks=16)  # of eight micro-batches
    assert idle.seconds == pytest.approx(alone.seconds / 8)


def test_without_torchrun_as_few_ranks_are_planned_as_are_asked_for() -> None:
    assert planned(tensor_parallel=2).sections["Mesh"]["ranks"] == 2


@pytest.mark.parametrize(
    ("ranks", "changes", "message"),
    [
        (3, {"context_parallel": 2}, "3 ranks are no whole number of groups of 2 x 1"),
        (3, {"context_parallel": 3}, "rows of 2048 tokens have no 3 equal pieces"),
        (4, {"tensor_parallel": 4}, "the mixers cannot be cut in 4 equal parts"),
    ],
)
def test_uneven_meshes_are_refused(ranks: int, changes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(ranks=ranks, **changes)


def test_recomputed_work_is_counted_once() -> None:
    alone, again = planned(), planned(recompute="mamba,attention,mlp")
    flops, recomputed = again.sections["Work"]["flops"], again.sections["Work"]["recomputed_flops"]
    assert isinstance(flops, float)
    assert isinstance(recomputed, float)
    assert alone.sections["Work"]["flops"] == flops
    assert 0.2 < recomputed / flops < 1 / 3  # a forward pass without the head
    assert alone.seconds is not None
    assert again.seconds == pytest.approx(alone.seconds * (1 + recomputed / flops))


def test_the_plan_shows_each_kind_of_memory() -> None:
    rows = planned(ranks=2, recompute="mlp").sections["Memory"]
    assert {"gathered_bytes", "recomputed_activations_bytes", "attention_masks_bytes"} <= rows.keys()
    assert rows["total_bytes"] == peak(ranks=2, recompute="mlp")


def test_what_lies_beside_is_spread_by_what_it_is() -> None:
    beside = {"teacher_weights_bytes": 800, "teacher_activations_bytes": 800, "kv_cache_bytes": 800}
    assert on_each_rank(beside, MeshShape(2, 2, 2)) == {
        "teacher_weights_bytes": 100,
        "teacher_activations_bytes": 200,
        "kv_cache_bytes": 400,
    }
    assert on_each_rank(beside, None) == beside


def test_rows_of_several_documents_have_masks() -> None:
    config = HybridConfig.preset(PRESET)
    packed, single = (training_memory(config, 1, 2048, "float32", packed=packed) for packed in (True, False))
    assert single.masks == 0
    assert packed.masks == 2048 * 2048 * (4 * config.pattern.count("*") + 1)
