"""A batch of rollouts as tensors: episodes packed into rows, as documents that do not see each other.

What is known of a token stands where the token before it does, which predicts it, as labels do.

Shapes: B rows, T tokens of the longest row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor

from evals.episodes.play import Episode
from model.loss import IGNORED
from stages.common.data.packing import PADDING_DOCUMENT, best_fit_decreasing


@dataclass(frozen=True)
class Rollout:
    """An episode that is trained, and how much better it is than its group."""

    episode: Episode
    advantage: float


@dataclass(frozen=True)
class PolicyBatch:
    """labels_BT: the tokens that the model chose, IGNORED elsewhere; the other tensors are 0 there.

    weights_BT: of each token in the loss, whose sum is divided by `count`. engine_logprobs_BT: as sampled, at temperature 1.
    old_logprobs_BT, reference_logprobs_BT: of trainer and reference before the first update, at the sampling's temperature.
    count: what the loss is a mean over, of all rows of the step: tokens, or episodes.
    """

    input_ids_BT: Tensor
    document_ids_BT: Tensor
    labels_BT: Tensor
    advantages_BT: Tensor
    weights_BT: Tensor
    engine_logprobs_BT: Tensor
    old_logprobs_BT: Tensor
    reference_logprobs_BT: Tensor
    count: int

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name.endswith("_BT")}

    def rows(self, start: int, end: int) -> Self:
        return self._of(lambda tensor: tensor[start:end])

    def to(self, device: torch.device) -> Self:
        return self._of(lambda tensor: tensor.to(device))

    def _of(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed = {name: change(tensor) for name, tensor in self.tensors().items()}
        return type(self)(**changed, count=self.count)


def pack(
    rollouts: Sequence[Rollout], seq_len: int, pad_id: int, aggregation: Literal["token", "sequence"]
) -> PolicyBatch:
    """Rows of at most `seq_len` tokens. The log-probabilities of trainer and reference are 0 yet."""
    lengths = [len(rollout.episode.ids) for rollout in rollouts]
    bins = best_fit_decreasing(lengths, seq_len)
    width = max(sum(lengths[index] for index in members) for members in bins)
    shape = len(bins), width
    whole: dict[str, Any] = {
        "input_ids_BT": torch.full(shape, pad_id),
        "document_ids_BT": torch.full(shape, PADDING_DOCUMENT),
        "labels_BT": torch.full(shape, IGNORED),
        **{
            name: torch.zeros(shape)
            for name in (
                "advantages_BT",
                "weights_BT",
                "engine_logprobs_BT",
                "old_logprobs_BT",
                "reference_logprobs_BT",
            )
        },
    }
    for row, members in enumerate(bins):
        start = 0
        for document, index in enumerate(members):
            end = start + lengths[index]
            for name, values in _columns(rollouts[index], document, aggregation).items():
                whole[name][row, start:end] = values
            start = end
    trained = int((whole["labels_BT"] != IGNORED).sum())
    return PolicyBatch(**whole, count=trained if aggregation == "token" else len(rollouts))


def _columns(rollout: Rollout, document: int, aggregation: str) -> dict[str, Tensor]:
    """Of one episode, [tokens] each."""
    episode = rollout.episode
    ids, chosen = torch.tensor(episode.ids), torch.tensor(episode.sampled)
    before = chosen.roll(-1)  # the token behind each: an episode never begins with one that was chosen
    weight = 1.0 if aggregation == "token" else 1.0 / int(chosen.sum())
    return {
        "input_ids_BT": ids,
        "document_ids_BT": torch.full_like(ids, document),
        "labels_BT": ids.roll(-1).where(before, IGNORED),
        "advantages_BT": rollout.advantage * before.float(),
        "weights_BT": weight * before.float(),
        "engine_logprobs_BT": torch.tensor(episode.logprobs).roll(-1).where(before, 0.0),
    }
