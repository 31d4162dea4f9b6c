"""The thinking budget: each branch of its rule with a model that follows a script, then against an oracle at random.

Both ways to write `</think>` are tried, as one token and spelled in several.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chat.parsers import parse
from model.errors import UsageError
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.sampling import SamplingParams
from model.inference.thinking import ThinkingBudget, ThinkingEnd
from model.tokenizer import load_tokenizer
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.model.inference.scripted import follower, ids
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story

END = 12
CLOSE = "</think>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module", params=["one-token", "spelled"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    texts = [f"{story(number)}.\n\nSo.\nYes\n\nNo\n</think>\n\nThe {number}" for number in range(50)]
    backend = train_tokenizer(iter(texts), 460)
    if request.param == "spelled":
        spec = backend.to_str()
        for tag, name in (("<think>", "<SPECIAL_13>"), (CLOSE, "<SPECIAL_14>")):
            spec = spec.replace(json.dumps(tag), json.dumps(name))
        backend = type(backend).from_str(spec)
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(backend, directory)
    loaded = load_tokenizer(directory)
    assert (len(ids(loaded, CLOSE)) == 1) == (request.param == "one-token")
    assert len(ids(loaded, ".\n\n")) == len(ids(loaded, ".\n")) == len(ids(loaded, "\n\n")) == 1
    return loaded


def letters(tokenizer: Any, text: str) -> list[int]:
    """One token a letter, so that a script can tell them apart."""
    return [tokenizer.convert_tokens_to_ids(letter) for letter in text]


def answer(tokenizer: Any) -> list[int]:
    """What follows the blank line behind the closing tag: XYZ and the end of the turn."""
    blank_line = ids(tokenizer, f"{CLOSE}\n\n")[-1]
    return [blank_line, *letters(tokenizer, "XYZ"), END]


def prompt(tokenizer: Any) -> list[int]:
    return [*ids(tokenizer, "Q<think>\n"), tokenizer.convert_tokens_to_ids("S")]


def think(
    tokenizer: Any,
    thoughts: list[int],
    budget: ThinkingBudget | None,
    *more: list[int],
    max_tokens: int = 60,
    stop: tuple[str, ...] = (),
) -> Completion:
    """What comes of a prompt that ends in thinking and "S", when the model goes on with `thoughts`."""
    asked = prompt(tokenizer)
    lm = follower(len(tokenizer), [asked[-1], *thoughts], answer(tokenizer), *more)
    request = Request(asked, max_tokens, stop_ids=frozenset({END}), stop=stop, thinking_budget=budget)
    return Generator(lm, tokenizer).run([request])[0]


def put_in(completion: Completion) -> list[int]:
    """The tokens that were forced; they are neighbours."""
    places = [index for index, forced in enumerate(completion.forced) if forced]
    assert places == list(range(places[0], places[0] + len(places)))
    return [completion.token_ids[index] for index in places]


@pytest.mark.parametrize("budget", [0, 3, 5])
def test_without_a_newline_it_closes_behind_the_grace(tokenizer: Any, budget: int) -> None:
    completion = think(tokenizer, letters(tokenizer, LETTERS), ThinkingBudget(budget, grace=4))
    thought = LETTERS[: budget + 4] if budget else ""
    assert completion.text == f"{thought}\n{CLOSE}\n\nXYZ"
    assert put_in(completion) == ids(tokenizer, f"\n{CLOSE}\n\n")
    assert completion.thinking_end is ThinkingEnd.BUDGET
    assert completion.thinking_tokens == len(thought)
    assert completion.answer_tokens == len(ids(tokenizer, f"{CLOSE}\n\n")) - tag_tokens(tokenizer) + 3
    assert completion.finish_reason is FinishReason.STOP
    assert parse(completion.text, thinking=True).well_formed


@pytest.mark.parametrize("newline", [".\n", ".\n\n", "\n"])
@pytest.mark.parametrize(("place", "closed"), [(2, False), (4, True), (5, True), (9, True), (10, False)])
def test_closes_at_the_next_newline(tokenizer: Any, newline: str, place: int, closed: bool) -> None:
    """With a budget of 4 tokens and a grace of 5, a newline in the 4th to the 9th token closes; one before does not, and
    behind the 9th there is no thinking any more."""
    script = letters(tokenizer, LETTERS)
    script.insert(place - 1, *ids(tokenizer, newline))
    completion = think(tokenizer, script, ThinkingBudget(4, grace=5))
    thought = tokenizer.decode(script[: place if closed else 9])
    closing = f"{CLOSE}\n\n" if closed else f"\n{CLOSE}\n\n"
    assert completion.text == f"{thought}{closing}XYZ"
    assert put_in(completion) == ids(tokenizer, closing)
    assert completion.thinking_tokens == (place if closed else 9)
    assert completion.thinking_end is ThinkingEnd.BUDGET


def test_a_budget_of_nothing_closes_at_once(tokenizer: Any) -> None:
    """Behind the newline of the prompt's `<think>` without another."""
    lm = follower(len(tokenizer), answer(tokenizer))
    asked = Request(
        ids(tokenizer, "Q<think>\n"), 30, stop_ids=frozenset({END}), thinking_budget=ThinkingBudget(0)
    )
    completion = Generator(lm, tokenizer).run([asked])[0]
    assert completion.text == f"{CLOSE}\n\nXYZ"
    assert put_in(completion) == ids(tokenizer, f"{CLOSE}\n\n")
    assert (completion.thinking_tokens, completion.thinking_end) == (0, ThinkingEnd.BUDGET)


@pytest.mark.parametrize("budget", [ThinkingBudget(3, grace=20), ThinkingBudget(4, 0), ThinkingBudget(90)])
def test_a_model_that_closes_by_itself_is_left_alone(tokenizer: Any, budget: ThinkingBudget) -> None:
    """Before the budget, at its last token, and within the grace."""
    tag = ids(tokenizer, f"{CLOSE}\n\n")
    thoughts = letters(tokenizer, "abc") + tag
    more = letters(tokenizer, LETTERS[5:])
    if budget.grace == 0 and len(ids(tokenizer, CLOSE)) > 1:
        budget = ThinkingBudget(3 + len(tag), 0)
    free = think(tokenizer, thoughts, None, more)
    completion = think(tokenizer, thoughts, budget, more)
    assert completion.token_ids == free.token_ids
    assert completion.text == f"abc{CLOSE}\n\nXYZ"
    assert not any(completion.forced)
    assert completion.thinking_end is ThinkingEnd.MODEL
    assert (completion.thinking_tokens, completion.answer_tokens) == (3, len(tag) + 3 - tag_tokens(tokenizer))
    assert (free.thinking_end, free.thinking_tokens, free.answer_tokens) == (None, 0, 0)


def tag_tokens(tokenizer: Any) -> int:
    """How many of the tokens of the tag and a blank line belong to the tag."""
    tag = ids(tokenizer, f"{CLOSE}\n\n")
    return next(n for n in range(1, len(tag) + 1) if CLOSE in tokenizer.decode(tag[:n]))


def test_a_tag_that_the_model_began_is_completed_not_doubled(tokenizer: Any) -> None:
    tag = ids(tokenizer, f"{CLOSE}\n\n")
    thoughts = letters(tokenizer, "abc") + tag
    for begun in range(1, tag_tokens(tokenizer)):
        completion = think(tokenizer, thoughts, ThinkingBudget(1, grace=2 + begun))
        assert completion.text == f"abc{CLOSE}\n\nXYZ"
        assert put_in(completion) == tag[begun:]
        assert completion.thinking_tokens == 3
        assert completion.thinking_end is ThinkingEnd.BUDGET


def test_a_tag_begun_in_other_tokens_is_completed_where_tags_are_spelled(tokenizer: Any) -> None:
    """Where it is one token, such text is no tag that the model knows, and is left as text."""
    thoughts = letters(tokenizer, "ab</thi" + "jkl")
    completion = think(tokenizer, thoughts, ThinkingBudget(2, grace=5))
    spelled = len(ids(tokenizer, CLOSE)) > 1
    assert completion.text == (f"ab{CLOSE}\n\nXYZ" if spelled else f"ab</thi\n{CLOSE}\n\nXYZ")


def test_it_closes_once(tokenizer: Any) -> None:
    """A model that opens its thinking again, or closes it again, is not helped a second time."""
    asked = prompt(tokenizer)
    blank_line = answer(tokenizer)[0]
    again = [blank_line, *letters(tokenizer, "K"), tokenizer.convert_tokens_to_ids("Ċ")]
    lm = follower(len(tokenizer), [asked[-1], *letters(tokenizer, LETTERS)], again, [again[-1], again[1]])
    request = Request(asked, 40, thinking_budget=ThinkingBudget(3, grace=0))
    completion = Generator(lm, tokenizer).run([request])[0]
    assert completion.text.startswith(f"abc\n{CLOSE}\n\nK\nK\nK\n")
    assert completion.text.count(CLOSE) == 1
    assert completion.answer_tokens == 40 - 3 - 1 - tag_tokens(tokenizer)


def test_max_tokens_counts_what_is_put_in(tokenizer: Any) -> None:
    closing = ids(tokenizer, f"\n{CLOSE}\n\n")
    for room in range(1, len(closing) + 2):
        completion = think(
            tokenizer, letters(tokenizer, LETTERS), ThinkingBudget(2, grace=0), max_tokens=2 + room
        )
        assert len(completion.token_ids) == 2 + room
        assert completion.finish_reason is FinishReason.LENGTH
        assert sum(completion.forced) == min(room, len(closing))
        unfinished = CLOSE not in completion.text
        assert (completion.thinking_end is ThinkingEnd.UNFINISHED) == unfinished
        assert completion.thinking_tokens == 2


def test_what_ends_a_request_ends_it_inside_of_the_thinking(tokenizer: Any) -> None:
    script = [*letters(tokenizer, "abcd"), END]
    completion = think(tokenizer, script, ThinkingBudget(20))
    assert (completion.text, completion.finish_reason) == ("abcd", FinishReason.STOP)
    assert (completion.thinking_end, completion.thinking_tokens) == (ThinkingEnd.UNFINISHED, 4)
    assert completion.answer_tokens == 0
    completion = think(tokenizer, letters(tokenizer, LETTERS), ThinkingBudget(20), stop=("ef",))
    assert (completion.text, completion.thinking_end) == ("abcd", ThinkingEnd.UNFINISHED)
    assert completion.finish_reason is FinishReason.STOP


def test_rows_with_and_without_budgets_share_a_batch(tokenizer: Any) -> None:
    """Each is what it is alone; samples of one prompt, too, which are read together."""
    lm = randomized(miniature("M*-", vocab_size=len(tokenizer)))
    budgets = [None, ThinkingBudget(0), ThinkingBudget(3, 2), None, ThinkingBudget(9, 0), ThinkingBudget(99)]
    requests = [
        Request(prompt(tokenizer), 40, SamplingParams(1.0, seed=seed % 2), thinking_budget=budget)
        for seed, budget in enumerate(budgets)
    ]
    together = Generator(lm, tokenizer, max_rows=4).run(requests)
    for request, completion in zip(requests, together, strict=True):
        alone = Generator(lm, tokenizer).run([request])[0]
        assert (alone.token_ids, alone.forced, alone.text) == (
            *(completion.token_ids, completion.forced, completion.text),
        )
        assert any(completion.forced) == (completion.thinking_end is ThinkingEnd.BUDGET)


@given(
    tokens=st.integers(0, 12),
    grace=st.integers(0, 8),
    seed=st.integers(0, 10_000),
    newlines=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_against_an_oracle(tokenizer: Any, tokens: int, grace: int, seed: int, newlines: bool) -> None:
    """Up to the closing the tokens are those of the same request without a budget, cut by the rule as one would write it
    with all the tokens at hand; log-probabilities are those of one pass over everything, of forced tokens, too."""
    lm = _babbler(tokenizer, newlines)
    asked = prompt(tokenizer)
    sampling = SamplingParams(1.0, seed=seed)
    free = Generator(lm, tokenizer).run([Request(asked, 30, sampling)])[0]
    completion = Generator(lm, tokenizer).run(
        [Request(asked, 30, sampling, thinking_budget=ThinkingBudget(tokens, grace))]
    )[0]
    cut = tokens + grace
    for place in range(max(tokens, 1), cut + 1):
        if "\n" in tokenizer.decode(free.token_ids[place - 1 : place]):
            cut = place
            break
    cut = 0 if tokens == 0 else cut
    if CLOSE in tokenizer.decode(free.token_ids[:cut]):
        assert completion.token_ids == free.token_ids
    else:
        text = tokenizer.decode(free.token_ids[:cut])
        closing = ids(tokenizer, f"{CLOSE}\n\n" if text.endswith("\n") else f"\n{CLOSE}\n\n")
        assert completion.token_ids[: cut + len(closing)] == free.token_ids[:cut] + closing
        assert [index for index, forced in enumerate(completion.forced) if forced] == list(
            range(cut, cut + len(closing))
        )
    with torch.no_grad():
        logits = lm(torch.tensor([asked + completion.token_ids])).logits[0, len(asked) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=1e-4)


def _babbler(tokenizer: Any, newlines: bool) -> Any:
    """A random model, which may be one that likes tokens with newlines in them."""
    lm = randomized(miniature("M*-", vocab_size=len(tokenizer)))
    if newlines:
        with torch.no_grad():
            for token in range(len(tokenizer)):
                if "\n" in tokenizer.decode([token]) or CLOSE in tokenizer.decode([token]):
                    lm.lm_head.weight[token] *= 3.0
    return lm


def test_what_cannot_be_done_is_refused(tokenizer: Any) -> None:
    lm = randomized(miniature("M", vocab_size=len(tokenizer)))
    inside = prompt(tokenizer)
    with pytest.raises(UsageError, match="needs a tokenizer"):
        Generator(lm).add(Request(inside, 4, thinking_budget=ThinkingBudget(1)))
    for text in ("Q", "Q<think></think>", "<think>\na</think>\n\n" + "word " * 200):
        with pytest.raises(UsageError, match="does not end inside of the thinking"):
            Generator(lm, tokenizer).add(Request(ids(tokenizer, text), 4, thinking_budget=ThinkingBudget(1)))
    far = ids(tokenizer, "<think>\n" + "word " * 300)
    Generator(lm, tokenizer).add(Request(far, 4, thinking_budget=ThinkingBudget(1)))
    for wrong in (-1, 1.5, True, None, "9"):
        with pytest.raises(UsageError, match="thinking budget"):
            ThinkingBudget(wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="thinking budget"):
            ThinkingBudget(1, wrong)  # type: ignore[arg-type]
