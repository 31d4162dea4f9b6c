"""Sides as tokens: the same prompt before both, the mask on what the assistant said, packing that changes nothing."""

import numpy as np
import pytest
import torch

from model.chat.special_tokens import END_OF_TURN
from model.loss import IGNORED
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.batches import PairBatch, answer_logprobs
from stages.common.preferences.encoding import encode_answers, encode_scored
from stages.common.preferences.lines import parse_pair
from tests.model.miniatures import miniature, randomized
from tests.stages.common.preferences.examples import PAIRS


@pytest.mark.parametrize("name", PAIRS)
def test_both_sides_stand_behind_one_prompt(tokenizer: ChatTokenizer, name: str) -> None:
    encoded = encode_answers(tokenizer, parse_pair(PAIRS[name], "x"))
    first = int(encoded.chosen.mask.argmax())
    assert int(encoded.rejected.mask.argmax()) == first > 0
    assert (encoded.chosen.ids[:first] == encoded.rejected.ids[:first]).all()
    for side in (encoded.chosen, encoded.rejected):
        stops = int((side.ids[side.mask == 1] == tokenizer.stop_id).sum())
        shown = tokenizer.chat.decode(side.ids[side.mask == 1])
        assert stops == shown.count(END_OF_TURN) > 0
        assert "stove" not in shown or name != "tool loops" or "By the stove." in shown


def test_masks_cover_every_turn_of_the_side_and_nothing_of_the_prompt(tokenizer: ChatTokenizer) -> None:
    def trained(name: str, side: str) -> str:
        encoded = getattr(encode_answers(tokenizer, parse_pair(PAIRS[name], "x")), side)
        return tokenizer.chat.decode(encoded.ids[encoded.mask == 1])

    assert trained("texts", "chosen") == f"It is four.\n{END_OF_TURN}"
    assert trained("reasoned", "chosen") == f"Two and two.\n</think>\n\nFour.\n{END_OF_TURN}"
    assert trained("reasoned", "rejected") == f"</think>\n\nFive.\n{END_OF_TURN}"
    loop = trained("tool loops", "chosen")
    assert loop.startswith("<TOOLCALL>[")
    assert loop.endswith(f"By the stove.\n{END_OF_TURN}")
    assert loop.count(END_OF_TURN) == 2
    assert "Hi" not in loop
    assert "by the stove" not in loop
    assert trained("within a loop", "chosen") == f"By the stove.\n{END_OF_TURN}"


def test_a_reward_model_reads_up_to_the_last_stop_token_without_reasoning(tokenizer: ChatTokenizer) -> None:
    for name, row in PAIRS.items():
        encoded = encode_scored(tokenizer, parse_pair(row, "x"))
        for side in (encoded.chosen, encoded.rejected):
            assert side.ids[-1] == tokenizer.stop_id
            assert side.mask.sum() == side.mask[-1] == 1
            assert "Two and two" not in tokenizer.chat.decode(side.ids), name
    assert encode_scored(tokenizer, parse_pair(PAIRS["reasoned"], "x")).strength == 3


def _batch(tokenizer: ChatTokenizer, seq_len: int) -> PairBatch:
    pairs = [encode_answers(tokenizer, parse_pair(row, name)) for name, row in PAIRS.items()]
    return PairBatch.of(pairs, torch.arange(8.0).view(4, 2), seq_len=seq_len, pad_id=0)


def test_a_row_holds_whole_pairs_in_documents_2k_and_2k_plus_1(tokenizer: ChatTokenizer) -> None:
    pairs = {name: encode_answers(tokenizer, parse_pair(row, name)) for name, row in PAIRS.items()}
    longest = max(pair.length for pair in pairs.values())
    batch = _batch(tokenizer, longest + 40)
    assert len(batch.input_ids_BT) < batch.count == 4
    assert batch.input_ids_BT.shape[1] <= longest + 40
    for span, which in zip(batch.spans, batch.order, strict=True):
        pair = list(pairs.values())[which]
        ids, documents = batch.input_ids_BT[span.row], batch.document_ids_BT[span.row]
        assert (ids[span.start : span.middle].numpy() == pair.chosen.ids).all()
        assert (ids[span.middle : span.end].numpy() == pair.rejected.ids).all()
        first = int(documents[span.start])
        assert first % 2 == 0
        assert (documents == first).nonzero().flatten().tolist() == list(range(span.start, span.middle))
        assert (documents == first + 1).nonzero().flatten().tolist() == list(range(span.middle, span.end))
        labels = batch.labels_BT[span.row, span.start : span.middle].numpy()
        assert (np.flatnonzero(labels != IGNORED) == np.flatnonzero(pair.chosen.mask) - 1).all()
    assert sorted(batch.order) == [0, 1, 2, 3]
    assert batch.reference_P2.tolist() == [[2.0 * i, 2.0 * i + 1] for i in batch.order]


def test_rows_of_a_batch_take_their_pairs_with_them(tokenizer: ChatTokenizer) -> None:
    batch = _batch(tokenizer, 400)
    parts = [batch.rows(row, row + 1) for row in range(len(batch.input_ids_BT))]
    assert len(parts) > 1
    assert sum(part.count for part in parts) == batch.count
    assert [index for part in parts for index in part.order] == list(batch.order)
    assert all(span.row == 0 for part in parts for span in part.spans)
    assert torch.cat([part.strength_P for part in parts]).tolist() == batch.strength_P.tolist()


def test_packed_equals_unpacked(tokenizer: ChatTokenizer) -> None:
    lm = randomized(miniature("M-M*-", vocab_size=448))
    packed, alone = _batch(tokenizer, 4096), _batch(tokenizer, 1)
    assert len(packed.input_ids_BT) == 1
    assert len(alone.input_ids_BT) == 4
    sums = [dict(zip(b.order, answer_logprobs(lm, b).tolist(), strict=True)) for b in (packed, alone)]
    for which in range(4):
        assert sums[0][which] == pytest.approx(sums[1][which], abs=1e-4)
    with torch.no_grad():  # and each side read by itself, as one document
        for which, row in enumerate(PAIRS.values()):
            pair = encode_answers(tokenizer, parse_pair(row, "x"))
            for side, expected in zip((pair.chosen, pair.rejected), sums[0][which], strict=True):
                ids = torch.from_numpy(side.ids).long()
                logp = lm(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
                assert float((logp * torch.from_numpy(side.mask[1:])).sum()) == pytest.approx(
                    expected, abs=1e-4
                )
