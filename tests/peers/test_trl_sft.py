"""Supervised fine-tuning against trl's SFTTrainer: the same conversations, weights and masks give its loss and gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.chat_lines import ChatSample
from model import HybridLM
from model.loading import save
from stages.common.data.chat.encoding import ChatTokenizer, encode_sample
from stages.common.data.packing import Packer
from stages.common.training.batches import Batch
from stages.common.training.objectives import cross_entropy
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story

trl = pytest.importorskip("trl")

TOOL = {
    "type": "function",
    "function": {
        "name": "mend",
        "description": "Mend a net.",
        "parameters": {"type": "object", "properties": {}},
    },
}


def _call(**arguments: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "mend", "arguments": arguments}}


CONVERSATIONS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "Speak of the village."},
            {"role": "user", "content": "Who built the wheel?"},
            {"role": "assistant", "reasoning_content": "Nobody remembers.", "content": "Nobody knows."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Count the barrels. /no_think"},
            {"role": "assistant", "content": "There are nine barrels of salted fish by the stove."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Mend the nets, please."},
            {
                "role": "assistant",
                "reasoning_content": "Two nets.",
                "content": "",
                "tool_calls": [_call(), _call()],
            },
            {"role": "tool", "content": "mended"},
            {"role": "tool", "content": "torn again"},
            {"role": "assistant", "reasoning_content": "One holds.", "content": "One net holds."},
        ],
        "tools": [TOOL],
    },
]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every kind of block with a tokenizer that has the chat template."""
    directory = tmp_path_factory.mktemp("model")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    save(randomized(miniature("M-M*-", vocab_size=448)), directory)
    return directory


@pytest.fixture(scope="module")
def theirs(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """trl's trainer, and the one batch that it makes of the conversations."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = trl.SFTConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        assistant_only_loss=True,
        max_length=None,
        per_device_train_batch_size=len(CONVERSATIONS),
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataset_num_proc=None,
    )
    rows = [
        {"messages": conversation["messages"], "tools": conversation.get("tools") or []}
        for conversation in CONVERSATIONS
    ]
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32),
        args=settings,
        train_dataset=datasets.Dataset.from_list(rows, on_mixed_types="use_json"),
        processing_class=AutoTokenizer.from_pretrained(artifact),
    )
    [batch] = list(trainer.get_train_dataloader())
    return trainer, batch


def _encoded(artifact: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    tokenizer = ChatTokenizer.open(artifact)
    samples = [ChatSample.model_validate(conversation) for conversation in CONVERSATIONS]
    return [(item.ids, item.mask) for sample in samples for item in encode_sample(tokenizer, sample)]


def _batch(documents: list[tuple[np.ndarray, np.ndarray]], *, packed: bool) -> Batch:
    """All documents in one row, or each in its own."""
    lengths = [len(ids) for ids, _ in documents]
    groups = [documents] if packed else [[document] for document in documents]
    rows = []
    for group in groups:
        packer = Packer(sum(lengths) if packed else max(lengths), 0)
        rows += [row for ids, mask in group for row in packer.add(ids, mask)] + list(packer.flush())
    return Batch.of(rows)


def test_tokens_and_masks_are_theirs(artifact: Path, theirs: tuple[Any, dict[str, Any]]) -> None:
    _, batch = theirs
    ours = {tuple(ids.tolist()): mask for ids, mask in _encoded(artifact)}
    for ids, labels, attended in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        length = int(attended.sum())
        mask = ours.pop(tuple(ids[:length].tolist()))
        assert ((labels[:length] != -100).numpy() == mask.astype(bool)).all()
    assert not ours


@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_are_theirs(
    artifact: Path, theirs: tuple[Any, dict[str, Any]], packed: bool
) -> None:
    trainer, batch = theirs
    trainer.model.eval()
    trainer.model.zero_grad()
    their_loss = trainer.compute_loss(trainer.model, dict(batch))
    their_loss.backward()
    expected = {
        name.replace("model.", "backbone.", 1): parameter.grad
        for name, parameter in trainer.model.named_parameters()
    }

    documents = _encoded(artifact)
    ours = _batch(documents, packed=packed)
    assert len(ours.input_ids_BT) == (1 if packed else len(documents))
    lm: HybridLM = randomized(miniature("M-M*-", vocab_size=448)).train()
    loss = cross_entropy(lm, ours).total / ours.count
    loss.backward()

    torch.testing.assert_close(loss, their_loss, rtol=1e-5, atol=1e-6)
    for name, parameter in lm.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)
