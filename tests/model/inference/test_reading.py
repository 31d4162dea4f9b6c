"""Prompts read together are what they are when each is read alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArtifactError
from model.inference.reading import FILLER, passes, read
from tests.model.miniatures import MINIATURES, random_ids, randomized

LENGTHS = (1, 33, 7, 16, 2, 17, 33)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=20), tokens=st.integers(1, 500))
def test_every_prompt_is_in_one_pass_with_others_of_its_length(lengths: list[int], tokens: int) -> None:
    prompts = [(number,) * length for number, length in enumerate(lengths)]
    groups = list(passes(prompts, tokens))
    assert sorted(prompt for group in groups for prompt in group) == sorted(prompts)
    for group in groups:
        sizes = [len(prompt) for prompt in group]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= FILLER
        assert len(group) == 1 or len(group) * sizes[0] <= tokens


@pytest.mark.parametrize("name", MINIATURES)
def test_together_as_alone(name: str) -> None:
    """The last hidden state, the whole inference state, and the log-probabilities."""
    lm = randomized(MINIATURES[name])
    prompts = [
        tuple(random_ids(lm.config, length, seed=number).tolist()) for number, length in enumerate(LENGTHS)
    ]
    with torch.inference_mode():
        together = read(lm, prompts, chunk=2048, scored=dict.fromkeys(prompts[1:], 0))
        assert together.state.lengths == list(LENGTHS)
        for row, prompt in enumerate(prompts):
            alone = read(lm, [prompt], chunk=13, scored={prompt: 3})
            torch.testing.assert_close(together.last_PD[row], alone.last_PD[0], rtol=0, atol=1e-4)
            mine, other = (
                state.select([which]) for state, which in ((together.state, row), (alone.state, 0))
            )
            next_token = torch.tensor([[5]])
            for _ in range(3):
                torch.testing.assert_close(
                    lm(next_token, state=mine).logits, lm(next_token, state=other).logits, rtol=0, atol=1e-4
                )
            if row:
                assert together.logprobs[prompt] == pytest.approx(alone.logprobs[prompt], abs=5e-5)
                assert len(together.logprobs[prompt]) == len(prompt) - 1


def test_likeliest_tokens_stand_with_the_scores() -> None:
    lm = randomized(MINIATURES["biases"])
    prompt = tuple(random_ids(lm.config, 40).tolist())
    with torch.inference_mode():
        reading = read(lm, [prompt], chunk=13, scored={prompt: 5})
        expected_TV = lm(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
    assert len(reading.likely[prompt]) == len(prompt) - 1
    for told, row_V, token, logprob in zip(
        reading.likely[prompt], expected_TV, prompt[1:], reading.logprobs[prompt], strict=True
    ):
        assert [index for index, _ in told] == row_V.topk(5).indices.tolist()
        assert [value for _, value in told] == pytest.approx(row_V.topk(5).values.tolist(), abs=1e-5)
        assert dict(told).get(token, logprob) == logprob


def test_rows_that_are_filled_up_go_on_filled_up() -> None:
    """Two ragged calls behind each other; no row is longer in both."""
    lm = randomized(MINIATURES["width-unlike-expand"])
    first, second = random_ids(lm.config, 3, 20), random_ids(lm.config, 3, 9, seed=2)
    counts = ([20, 3, 1], [1, 9, 4])
    with torch.inference_mode():
        state = lm.new_state(3)
        lm.hidden_states(first, state=state, counts=counts[0])
        hidden = lm.hidden_states(second, state=state, counts=counts[1])
        for row in range(3):
            whole = torch.cat([first[row, : counts[0][row]], second[row, : counts[1][row]]])
            expected = lm.hidden_states(whole[None])[0, counts[0][row] :]
            torch.testing.assert_close(hidden[row, : counts[1][row]], expected, rtol=0, atol=1e-4)
    assert state.lengths == [21, 12, 5]


def test_logprobs_that_are_not_finite_name_the_layer() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    with torch.no_grad():
        lm.get_parameter("backbone.layers.1.mixer.out_proj.weight")[0, 0] = torch.nan
    with pytest.raises(ArtifactError, match=r"layer 1 \(Mamba-2\)"), torch.inference_mode():
        read(lm, [(1, 2, 3)], chunk=9, scored={(1, 2, 3): 0})
