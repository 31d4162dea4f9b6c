"""The order of blocks against models that were really built without them, and runs that are interrupted."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.errors import InterruptedRunError, NotFiniteError, UsageError
from model.hybrid import HybridLM
from stages.common.reporter import QuietProgressBar
from stages.common.training.batches import TrainingData
from stages.prune.importance.calibration import Calibration
from stages.prune.importance.layers import STATE_FILE, layer_order, removal_errors
from tests.model.miniatures import miniature, randomized
from tests.stages.prune.miniature_runs import ROWS, context, measured, packed_rows
from tests.stages.prune.planting import kill_layer

CONFIG = miniature("M-M*-M*")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return packed_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def lm() -> HybridLM:
    return randomized(CONFIG)


def _without(lm: HybridLM, gone: set[int]) -> HybridLM:
    """The model, built anew from the blocks that remain."""
    stays = [block for block in range(len(lm.config.pattern)) if block not in gone]
    pattern = "".join(lm.config.pattern[block] for block in stays)
    smaller = HybridLM(lm.config.model_copy(update={"pattern": pattern}), initialize=False)
    state = {k: v for k, v in lm.state_dict().items() if "layers." not in k}
    for number, block in enumerate(stays):
        for name, value in lm.backbone.layers[block].state_dict().items():
            state[f"backbone.layers.{number}.{name}"] = value
    smaller.load_state_dict(state)
    return smaller.eval()


@torch.no_grad()
def _logits(lm: HybridLM, data: TrainingData) -> Tensor:
    batch = data.rows([("a", row) for row in range(ROWS)])
    return lm(batch.input_ids_BT, batch.document_ids_BT).logits[batch.document_ids_BT >= 0].double()


def _mse(lm: HybridLM, data: TrainingData, gone: set[int]) -> float:
    return float((_logits(_without(lm, gone), data) - _logits(lm, data)).square().mean())


def test_blocks_go_one_by_one_as_their_removal_changes_the_logits_least(
    data: TrainingData, tmp_path: Path
) -> None:
    lm = randomized(CONFIG, seed=10)  # whose blocks, ranked once and for all, would go in another order
    order = measured(lm, data, tmp_path, deepest=2).layers
    gone: set[int] = set()
    for block, mse in order:
        errors = {b: _mse(lm, data, gone | {b}) for b in range(7) if b not in gone}
        assert block == min(errors, key=errors.__getitem__)
        assert mse == pytest.approx(errors[block], rel=1e-4)
        gone.add(block)
    assert len(order) == 5
    at_once = sorted(range(7), key=lambda b: _mse(lm, data, {b}))
    assert [block for block, _ in order] != at_once[:5]


def test_blocks_go_by_chance_as_the_seed_says_and_tell_what_they_cost(
    lm: HybridLM, data: TrainingData, tmp_path: Path
) -> None:
    drawn = [
        measured(
            lm, data, tmp_path / str(number), deepest=3, block_ranking="random", calibration_seed=seed
        ).layers
        for number, seed in enumerate((0, 0, 1, 2))
    ]
    blocks = [[block for block, _ in order] for order in drawn]
    assert blocks[0] == blocks[1]
    assert len({tuple(each) for each in blocks}) > 1
    gone = set(blocks[0])
    assert drawn[0][-1][1] == pytest.approx(_mse(lm, data, gone), rel=1e-4)


def test_dead_blocks_go_first_and_cost_nothing(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    for block in (5, 1):
        kill_layer(lm, block)
    order = measured(lm, data, tmp_path, deepest=4).layers
    assert order[:2] == [(1, 0.0), (5, 0.0)]
    assert order[2][1] > 0


@pytest.mark.parametrize(
    "keep", [{"*": 2}, {"M": 3, "-": 2}, {"*": 1, "M": 2, "-": 1}], ids=lambda keep: "".join(keep)
)
def test_kept_kinds_keep_as_many_blocks(
    lm: HybridLM, data: TrainingData, keep: dict[str, int], tmp_path: Path
) -> None:
    order = measured(lm, data, tmp_path, deepest=sum(keep.values()), keep=keep).layers
    gone = {block for block, _ in order}
    left = "".join(letter for block, letter in enumerate(CONFIG.pattern) if block not in gone)
    assert len(left) == sum(keep.values())
    for letter, count in keep.items():
        assert left.count(letter) == count


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"*": 3}, "3 blocks of kind '\\*' are to be kept; the model has 2"),
        ({"M": 3, "-": 2}, "only 4 in all"),
    ],
)
def test_keeping_more_than_there_is_is_refused(
    lm: HybridLM, data: TrainingData, keep: dict[str, int], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        measured(lm, data, tmp_path, deepest=4, keep=keep)


def test_errors_are_those_of_real_logits_in_bfloat16_products_too(data: TrainingData) -> None:
    lm = randomized(CONFIG)
    lm.compute_dtype = torch.bfloat16
    batch = data.rows([("a", row) for row in range(ROWS)])
    gram = lm.lm_head.weight.double().T @ lm.lm_head.weight.double()
    errors = removal_errors(lm, batch, set(), [0, 4], gram.float())
    for block, error in errors.items():
        tokens = int((batch.document_ids_BT >= 0).sum())
        assert error / (tokens * CONFIG.vocab_size) == pytest.approx(_mse(lm, data, {block}), rel=0.05)


def test_an_interrupted_order_goes_on_where_it_was(
    lm: HybridLM, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at every batch in turn, it computes each batch once and ends with the very same numbers."""
    calibration = Calibration(data, ROWS, 4, 0)

    def order(run_dir: Path, stop_after: int | None) -> tuple[list[tuple[int, float]] | None, int]:
        running, computed = context(run_dir), 0

        def counting(*args: object) -> dict[int, float]:
            nonlocal computed
            computed += 1
            if computed == stop_after:
                running.stop.signal_name = "SIGTERM"
            return removal_errors(*args)  # type: ignore[arg-type]

        monkeypatch.setattr("stages.prune.importance.layers.removal_errors", counting)
        try:
            return layer_order(lm, calibration, ROWS, deepest=5, keep={}, context=running), computed
        except InterruptedRunError:
            return None, computed

    whole, batches = order(tmp_path / "whole", None)
    assert batches == 2 * 3
    rounds, total = 0, 0
    result = None
    while result is None:
        result, computed = order(tmp_path / "cut", 1)
        total += computed
        rounds += 1
    assert (rounds, total) == (
        batches,
        batches,
    )  # the signal after the last batch comes too late to interrupt
    assert result == whole


def test_a_killed_order_begins_its_step_again(lm: HybridLM, data: TrainingData, tmp_path: Path) -> None:
    whole = measured(lm, data, tmp_path / "whole", deepest=4).layers
    first = measured(lm, data, tmp_path / "cut", deepest=6).layers
    state = json.loads((tmp_path / "cut" / STATE_FILE).read_text())
    assert state["gone"] == [list(pair) for pair in first]
    (tmp_path / "cut" / "importance.safetensors").unlink()
    assert measured(lm, data, tmp_path / "cut", deepest=4).layers == whole


def test_fewer_rows_may_rank_blocks_than_widths(lm: HybridLM, data: TrainingData, tmp_path: Path) -> None:
    few = measured(lm, data, tmp_path / "few", deepest=5, layer_samples=2)
    assert few.layers == measured(lm, data, tmp_path / "two", deepest=5, samples=2).layers
    all_rows = measured(lm, data, tmp_path / "all", deepest=5)
    assert few.layers != all_rows.layers
    assert torch.equal(few.widths.hidden, all_rows.widths.hidden)


def test_a_model_that_computes_nan_is_named(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    with torch.no_grad():
        lm.backbone.layers[3].mixer.q_proj.weight[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="NaN"):
        measured(lm, data, tmp_path / "layers", deepest=6)
    with pytest.raises(NotFiniteError, match="NaN"):
        measured(lm, data, tmp_path / "widths")


def test_the_bar_counts_every_batch_of_every_step(
    lm: HybridLM, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = QuietProgressBar()
    monkeypatch.setattr("stages.common.reporter.QuietProgressBar", lambda: bar)
    measured(lm, data, tmp_path, deepest=5, sample_batch=5)
    assert bar.done == 2 * 2 + 2
