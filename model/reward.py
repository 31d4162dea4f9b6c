"""A reward model: the hybrid network with a score head, which reads the hidden state at the end of an answer.

An artifact of kind `reward` is a checkpoint with `reward/score_head.safetensors` in it. What is scored is the conversation
up to the stop token of its last turn, rendered with thinking off and without any reasoning: an answer is judged, not how it
came about. Training and scoring take their tokens from the same function.

Shapes: B rows, T tokens, D hidden size, n places in the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.artifact.provenance import read_provenance, verify_files
from model.artifact.safetensors_header import read_header
from model.artifact.weights import save_tensors
from model.chat.template import encode
from model.config import HybridConfig
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.layers.linear import Linear
from model.loading import load, save
from model.tokenizer import load_tokenizer

HEAD_FILE = "reward/score_head.safetensors"
"""Not beside the weights, where vLLM would read it as a part of them."""

_HEAD = "score_head.weight"
_PADDING_DOCUMENT = -1
_ROWS_TOKENS = 1 << 14
"""Tokens of conversations, padding included, that are scored together; one that is longer is scored alone."""


class ScoredLM(HybridLM):
    """A hybrid LM with a score head, [1, D] without a bias. Its language-model head is kept and not trained."""

    def __init__(self, config: HybridConfig, *, initialize: bool = True) -> None:
        super().__init__(config, initialize=initialize)
        self.score_head = Linear(config.hidden_size, 1, bias=False)
        self.lm_head.weight.requires_grad_(False)
        if initialize:
            torch.nn.init.zeros_(self.score_head.weight)

    @classmethod
    def of(cls, lm: HybridLM, head_1D: Tensor | None = None) -> "ScoredLM":
        """The network with the parameters of `lm`, shared; by default with a head of zeros, so that all scores are 0."""
        if head_1D is None:
            head_1D = torch.zeros_like(lm.lm_head.weight[:1])
        with torch.device("meta"):
            scored = cls(lm.config, initialize=False)
        scored.load_state_dict(lm.state_dict() | {_HEAD: head_1D}, assign=True)
        return scored.train(lm.training)

    def scores(
        self, input_ids_BT: Tensor, document_ids_BT: Tensor, rows_n: Tensor, positions_n: Tensor
    ) -> Tensor:
        """[n] scores at the given positions, in float32 (float64 in a float64 model)."""
        hidden_nD = self.hidden_states(input_ids_BT, document_ids_BT)[rows_n, positions_n]
        wide = torch.promote_types(hidden_nD.dtype, torch.float32)
        return (hidden_nD.to(wide) @ self.score_head.weight.to(wide).T)[:, 0]

    def save(self, directory: Path, dtype: torch.dtype | str | None = None) -> None:
        """Write the checkpoint (in `dtype`, default: as it is) and the head, in float32, into a directory."""
        with torch.device("meta"):
            plain = HybridLM(self.config, initialize=False)
        state = self.state_dict()
        head_1D = state.pop(_HEAD)
        plain.load_state_dict(state, assign=True)
        save(plain, directory, dtype)
        (directory / HEAD_FILE).parent.mkdir(exist_ok=True)
        save_tensors({_HEAD: head_1D.float()}, directory / HEAD_FILE)


@dataclass(frozen=True)
class Conversation:
    """What is scored: messages as the chat template takes them, the last of them the assistant's, and the tools."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


def scored_ids(tokenizer: Any, conversation: Conversation) -> list[int]:
    """The tokens of a conversation without reasoning, up to the stop token of its last turn, where its score is read.

    Raises:
        ArtifactError: the last message is not the assistant's, or the template refuses the conversation.
    """
    if not conversation.messages or conversation.messages[-1].get("role") != "assistant":
        raise ArtifactError(
            "there is no answer to score", where="chat", remedy="end the conversation with an assistant turn"
        )
    messages = [
        {**message, "reasoning_content": ""}
        if message.keys() & {"reasoning", "reasoning_content"}
        else message
        for message in conversation.messages
    ]
    encoded = encode(tokenizer, messages, tools=conversation.tools, thinking=False)
    end = max(index for index, generated in enumerate(encoded.assistant_mask) if generated)
    return encoded.ids[: end + 1]


@dataclass(frozen=True)
class RewardModel:
    """A network with a score head and the tokenizer whose conversations it scores."""

    lm: ScoredLM
    tokenizer: Any

    @classmethod
    def load(
        cls, directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | str | None = None
    ) -> "RewardModel":
        """The reward model of an artifact, in evaluation mode. ArtifactError for any defect, a missing head among them."""
        path = Path(directory)
        lm = load(path, device, dtype)
        return cls(
            ScoredLM.of(lm, _read_head(path, lm.config).to(device)),
            load_tokenizer(path, lm.config.vocab_size),
        )

    @torch.no_grad()
    def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """A score for each, higher is better; only differences between answers to one prompt mean something."""
        ids = [scored_ids(self.tokenizer, conversation) for conversation in conversations]
        scores = [0.0] * len(ids)
        for members in _groups([len(each) for each in ids]):
            longest = max(len(ids[index]) for index in members)
            input_ids_BT = torch.zeros(len(members), longest, dtype=torch.long)
            document_ids_BT = torch.full_like(input_ids_BT, _PADDING_DOCUMENT)
            for row, index in enumerate(members):
                input_ids_BT[row, : len(ids[index])] = torch.tensor(ids[index])
                document_ids_BT[row, : len(ids[index])] = 0
            ends_B = (document_ids_BT == 0).sum(1) - 1
            device = self.lm.device
            found = self.lm.scores(
                input_ids_BT.to(device), document_ids_BT.to(device), torch.arange(len(members)), ends_B
            )
            for index, score in zip(members, found.tolist(), strict=True):
                scores[index] = score
        return scores


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in order of length, in groups that fit into `_ROWS_TOKENS`."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if groups and (len(groups[-1]) + 1) * lengths[index] <= _ROWS_TOKENS:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _read_head(directory: Path, config: HybridConfig) -> Tensor:
    from safetensors.torch import load_file

    path = directory / HEAD_FILE
    if not path.is_file():
        raise ArtifactError(
            f"there is no {HEAD_FILE}, so it is no reward model",
            where=str(directory),
            remedy="give an artifact of `nano2 reward`",
        )
    if provenance := read_provenance(directory):
        verify_files(directory, provenance, only=[HEAD_FILE])
    header = read_header(path)
    if set(header) != {_HEAD} or header[_HEAD].shape != (1, config.hidden_size):
        raise ArtifactError(
            f"does not hold {_HEAD} of shape [1, {config.hidden_size}] alone",
            where=str(path),
            remedy="check that the head and config.json belong together",
        )
    head_1D = load_file(path)[_HEAD]
    if not bool(torch.isfinite(head_1D).all()):
        raise ArtifactError(
            f"tensor {_HEAD} has values that are not finite", where=str(path), remedy="train it again"
        )
    return head_1D
