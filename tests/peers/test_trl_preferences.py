"""dpo and reward against trl's DPOTrainer and RewardTrainer: the same pairs and weights give their losses, figures and
gradients."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model import HybridLM
from model.loading import save
from model.reward import ScoredLM
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.batches import PairBatch, answer_logprobs
from stages.common.preferences.encoding import PairEncoder, encode_answers, encode_scored
from stages.common.preferences.lines import parse_pair
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from stages.dpo.objective import DpoObjective
from stages.reward.objective import ranking_objective
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story

trl = pytest.importorskip("trl")
CONFIG = miniature("M-M*-", vocab_size=448)
PAIRS: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "user", "content": "Who built the wheel?"}],
        "chosen": [{"role": "assistant", "content": "Nobody knows."}],
        "rejected": [{"role": "assistant", "content": "The miller, the baker and the smith built it together."}],
    },
    {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count the barrels."}],
        "chosen": [{"role": "assistant", "content": "There are nine barrels of salted fish by the stove."}],
        "rejected": [{"role": "assistant", "content": "Ten."}],
    },
    {
        "prompt": [{"role": "user", "content": "Are the nets mended?"}],
        "chosen": [{"role": "assistant", "content": "One of two."}],
        "rejected": [{"role": "assistant", "content": "Yes, all."}],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every kind of block, which is the reference, with a tokenizer that has the chat template."""
    directory = tmp_path_factory.mktemp("model")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    save(randomized(CONFIG), directory)
    return directory


def _policy() -> HybridLM:
    """Near the reference, and not equal to it."""
    lm, other = randomized(CONFIG), randomized(CONFIG, seed=5)
    with torch.no_grad():
        for mine, theirs in zip(lm.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, 0.02)
    return lm


def _batch(artifact: Path, encoder: PairEncoder, *, packed: bool, reference: bool = False) -> PairBatch:
    tokenizer = ChatTokenizer.open(artifact)
    pairs = [encoder(tokenizer, parse_pair(row, "x")) for row in PAIRS]
    seq_len = sum(pair.length for pair in pairs) if packed else max(pair.length for pair in pairs)
    batch = PairBatch.of(pairs, None, seq_len=seq_len, pad_id=0)
    if reference:
        with torch.no_grad():
            logprobs = answer_logprobs(randomized(CONFIG), batch)
        reference_P2 = torch.empty_like(logprobs)
        reference_P2[list(batch.order)] = logprobs
        batch = PairBatch.of(pairs, reference_P2, seq_len=seq_len, pad_id=0)
    assert len(batch.input_ids_BT) == 1 or not packed
    return batch


def _arguments(**more: Any) -> dict[str, Any]:
    return {
        "max_length": None,
        "per_device_train_batch_size": len(PAIRS),
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        **more,
    }


@pytest.fixture(scope="module")
def dpo_trainer(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """trl's trainer with the reference as reference and our policy as policy, and the one batch that it makes."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = tmp_path_factory.mktemp("policy")
    save(_policy(), directory)
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32),
        args=trl.DPOConfig(output_dir=str(tmp_path_factory.mktemp("trl")), **_arguments()),
        train_dataset=datasets.Dataset.from_list(
            [row | {"chat_template_kwargs": {"enable_thinking": False}} for row in PAIRS]
        ),
        processing_class=AutoTokenizer.from_pretrained(artifact),
    )
    [batch] = list(trainer.get_train_dataloader())
    return trainer, batch


def _renamed_gradients(model: Any) -> dict[str, Any]:
    return {
        name.replace("model.", "backbone.", 1): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _compare_gradients(lm: HybridLM, expected: dict[str, Any]) -> None:
    """A sum of log-probabilities in the hundreds is exact to some 1e-5 in float32, and all gradients are multiplied by a
    function of it: they are compared in relation to the largest of a tensor, which is 54 here.
    """
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(
                parameter.grad, expected[name], rtol=0, atol=2e-5 * max(0.5, scale), msg=name
            )


def test_tokens_and_masks_are_theirs(artifact: Path, dpo_trainer: tuple[Any, dict[str, Any]]) -> None:
    _, batch = dpo_trainer
    tokenizer = ChatTokenizer.open(artifact)
    pairs = [encode_answers(tokenizer, parse_pair(row, "x")) for row in PAIRS]
    ours = {
        tuple(side.ids.tolist()): side.mask.tolist()
        for pair in pairs
        for side in (pair.chosen, pair.rejected)
    }
    for ids, attended, mask in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
    ):
        length = int(attended.sum())
        # They train the newline behind the stop token, too, which serving never generates.
        theirs = mask[:length].tolist()
        assert ids[length - 2] == tokenizer.stop_id
        assert [*theirs[:-1], 0] == ours.pop(tuple(ids[:length].tolist()))
    assert not ours


# With a beta of 1 the figures would be as coarse as float32 sums of log-probabilities in the hundreds: some 1e-5.
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("beta", "label_smoothing", "sft_weight"),
    [(0.05, 0.0, 0.0), (0.5, 0.1, 0.0), (0.1, 0.0, 0.3), (0.3, 0.3, 1.0)],
)
def test_loss_figures_and_gradients_are_theirs(
    artifact: Path,
    dpo_trainer: tuple[Any, dict[str, Any]],
    packed: bool,
    beta: float,
    label_smoothing: float,
    sft_weight: float,
) -> None:
    trainer, batch = dpo_trainer
    trainer.beta, trainer.label_smoothing = beta, label_smoothing
    trainer.model.eval()
    trainer.model.zero_grad()
    mask = _without_newlines(batch, ChatTokenizer.open(artifact).stop_id)
    their_batch = dict(batch) | {"completion_mask": mask}
    their_loss = torch.zeros(())
    for inputs, kinds, weight in _parts(their_batch, label_smoothing, sft_weight):
        trainer.loss_types, trainer.loss_weights = list(kinds), list(kinds.values())
        trainer._metrics["eval"].clear()
        part = trainer.compute_loss(trainer.model, inputs) * weight
        part.backward()
        their_loss += part.detach()
    theirs = {name: values[-1] for name, values in trainer._metrics["eval"].items()}

    lm = _policy().train()
    ours = _batch(artifact, encode_answers, packed=packed, reference=True)
    loss = DpoObjective(beta, label_smoothing, sft_weight)(lm, ours)
    (loss.total / ours.count).backward()
    torch.testing.assert_close(loss.total / ours.count, their_loss, rtol=1e-5, atol=1e-5)
    for name in (
        *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
        *("logps/chosen", "logps/rejected"),
    ):
        assert loss.sums[name] / ours.count == pytest.approx(theirs[name], rel=1e-5, abs=1e-5), name
    assert abs(theirs["rewards/margins"]) > 1e-3
    _compare_gradients(lm, _renamed_gradients(trainer.model))


def _parts(
    batch: dict[str, Any], label_smoothing: float, sft_weight: float
) -> list[tuple[dict[str, Any], dict[str, float], float]]:
    """(inputs, their losses with weights, weight of the part), the last of all pairs.

    Their sigmoid loss knows no smoothing. Their aot loss does, and is the same for a single pair.
    """
    kinds = {"sigmoid": float(label_smoothing == 0)} | ({"sft": sft_weight} if sft_weight else {})
    count = len(PAIRS)
    singles = [
        ({name: value[[index, index + count]] for name, value in batch.items()}, {"aot": 1.0}, 1 / count)
        for index in range(count if label_smoothing else 0)
    ]
    return [*singles, (batch, kinds, 1.0)]


def _without_newlines(batch: dict[str, Any], stop_id: int) -> torch.Tensor:
    """Their mask up to the stop token."""
    ids, mask = batch["input_ids"], batch["completion_mask"].clone()
    for row in range(len(ids)):
        mask[row, int((ids[row] == stop_id).nonzero()[-1]) + 1 :] = 0
    return mask


def test_the_first_loss_is_ln_2_for_both(artifact: Path) -> None:
    batch = _batch(artifact, encode_answers, packed=True, reference=True)
    loss = DpoObjective(0.7, 0.0, 0.0)(randomized(CONFIG), batch)
    assert float(loss.total.detach()) / batch.count == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_reward_loss_figures_and_gradients_are_theirs(artifact: Path, packed: bool) -> None:
    from transformers import AutoModelForCausalLM

    head = torch.randn(1, CONFIG.hidden_size, generator=torch.Generator().manual_seed(2))
    backbone = AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32).model
    score = torch.nn.Linear(CONFIG.hidden_size, 1, bias=False)
    score.weight.data.copy_(head)

    class Classifier(torch.nn.Module):
        """transformers has no NemotronH for sequence classification: its backbone, and the score at the last token."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.score = backbone, score

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            hidden = self.model(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
            ).last_hidden_state
            ends = attention_mask.sum(1) - 1
            return SimpleNamespace(logits=self.score(hidden[torch.arange(len(ends)), ends]))

    tokenizer = ChatTokenizer.open(artifact)
    pairs = [encode_scored(tokenizer, parse_pair(row, "x")) for row in PAIRS]
    collator = trl.trainer.reward_trainer.DataCollatorForPreference(pad_token_id=0)
    inputs = collator(
        [{"chosen_ids": p.chosen.ids.tolist(), "rejected_ids": p.rejected.ids.tolist()} for p in pairs]
    )
    figures: dict[str, Any] = {"eval": {}, "train": {}}
    keep = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={"eval": _Lists(figures["eval"])},
        _total_train_tokens=0,
    )
    classifier = Classifier()
    their_loss = trl.RewardTrainer.compute_loss(keep, classifier, dict(inputs))
    their_loss.backward()

    lm = ScoredLM.of(randomized(CONFIG), head.clone()).train()
    ours = _batch(artifact, encode_scored, packed=packed)
    loss = ranking_objective(lm, ours)
    (loss.total / ours.count).backward()
    torch.testing.assert_close(loss.total / ours.count, their_loss, rtol=1e-5, atol=1e-5)
    for mine, their in (("accuracy", "accuracy"), ("margin", "margin")):
        assert loss.sums[mine] / ours.count == pytest.approx(figures["eval"][their][0], rel=1e-5, abs=1e-5)
    expected = _renamed_gradients(classifier)
    expected["score_head.weight"] = expected.pop("score.weight")
    _compare_gradients(lm, expected)


class _Lists(dict[str, list[float]]):
    """Their metrics: a list for each name, kept in `target`, too."""

    def __init__(self, target: dict[str, list[float]]) -> None:
        self._target = target

    def __missing__(self, name: str) -> list[float]:
        self[name] = self._target[name] = []
        return self[name]
