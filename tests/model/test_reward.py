"""A reward model: what it scores, what is stored, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.chat.special_tokens import END_OF_TURN
from model.chat.template import encode
from model.errors import ArtifactError
from model.loading import load, save
from model.reward import HEAD_FILE, Conversation, RewardModel, ScoredLM, scored_ids
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.model.miniatures import miniature, randomized

CONFIG = miniature("M-M*-", vocab_size=448)


def _chat(answer: str, **fields: Any) -> Conversation:
    return Conversation(
        [
            {"role": "user", "content": "Who built the wheel?"},
            {"role": "assistant", "content": answer, **fields},
        ]
    )


@pytest.fixture
def artifact(tokenizer_directory: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "reward"
    directory.mkdir()
    head = torch.randn(1, CONFIG.hidden_size, generator=torch.Generator().manual_seed(3))
    ScoredLM.of(randomized(CONFIG), head).save(directory)
    copy_tokenizer(tokenizer_directory, directory)
    return directory


def test_the_score_is_the_heads_product_at_the_stop_token(artifact: Path) -> None:
    model = RewardModel.load(artifact)
    chat = _chat("Nobody knows.")
    ids = encode(model.tokenizer, chat.messages, thinking=False).ids
    stop = model.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    end = len(ids) - 1 - ids[::-1].index(stop)
    hidden = randomized(CONFIG).hidden_states(torch.tensor([ids[: end + 1]]))[0, -1]
    expected = float((hidden @ model.lm.score_head.weight[0]).detach())
    assert model.score([chat]) == [pytest.approx(expected, abs=1e-5)]
    assert abs(expected) > 0.1


def test_scores_do_not_depend_on_what_is_scored_with_them(artifact: Path) -> None:
    model = RewardModel.load(artifact)
    chats = [_chat("word " * count) for count in (40, 1, 7, 400, 3)]
    together = model.score(chats)
    assert together == pytest.approx([model.score([chat])[0] for chat in chats], abs=1e-5)
    assert len(set(together)) == len(together)


def test_reasoning_is_left_out(artifact: Path) -> None:
    model = RewardModel.load(artifact)
    plain = model.score([_chat("Four.")])
    for chat in (
        _chat("Four.", reasoning_content="Two and two."),
        _chat("Four.", reasoning="Two and two."),
        _chat("<think>Two and two.</think>\n\nFour."),
    ):
        assert scored_ids(model.tokenizer, chat) == scored_ids(model.tokenizer, _chat("Four."))
        assert model.score([chat]) == plain


def test_without_an_answer_there_is_no_score(artifact: Path) -> None:
    tokenizer = load_tokenizer(artifact)
    for messages in ([], [{"role": "user", "content": "a"}]):
        with pytest.raises(ArtifactError, match="no answer to score"):
            scored_ids(tokenizer, Conversation(messages))


def test_an_artifact_is_a_checkpoint_and_a_head(artifact: Path) -> None:
    original = randomized(CONFIG).state_dict()
    for name, tensor in load(artifact).state_dict().items():
        assert torch.equal(tensor, original[name])
    model = RewardModel.load(artifact, dtype="bfloat16")
    assert model.lm.lm_head.weight.dtype == torch.bfloat16
    assert model.lm.score_head.weight.dtype == torch.float32
    assert model.score([_chat("Four.")])[0] == pytest.approx(
        RewardModel.load(artifact).score([_chat("Four.")])[0], abs=0.5
    )


def test_a_fresh_head_scores_zero_and_is_trained_without_the_lm_head() -> None:
    scored = ScoredLM.of(randomized(CONFIG).train())
    scores = scored.scores(
        torch.arange(8).view(1, 8),
        torch.zeros(1, 8, dtype=torch.long),
        torch.zeros(2, dtype=int),
        torch.tensor([3, 7]),
    )
    assert scores.tolist() == [0, 0]
    assert {name for name, p in scored.named_parameters() if not p.requires_grad} == {"lm_head.weight"}


def test_what_is_no_reward_model_is_refused(artifact: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    save(randomized(CONFIG), plain)
    copy_tokenizer(artifact, plain)
    with pytest.raises(ArtifactError, match="no reward model"):
        RewardModel.load(plain)
    for head, words in (
        (torch.zeros(1, 3), "does not hold"),
        (torch.full((1, CONFIG.hidden_size), float("nan")), "not finite"),
    ):
        save_file({"score_head.weight": head}, artifact / HEAD_FILE)
        with pytest.raises(ArtifactError, match=words):
            RewardModel.load(artifact)
    (artifact / HEAD_FILE).write_bytes(b"1234")
    with pytest.raises(ArtifactError, match=HEAD_FILE):
        RewardModel.load(artifact)
