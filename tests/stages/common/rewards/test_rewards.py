import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from evals.episodes.play import Episode, EpisodeEnd
from model.errors import InterruptedRunError, UsageError
from model.reward import ScoredLM
from stages.common.rewards.rewards import Reward, Rewards
from stages.common.rewards.settings import RewardPart
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story
from tests.stages.common.rewards.episodes import episode
from tests.stages.data.longqa.server import Endpoint, completion, error

PARTS: TypeAdapter[tuple[RewardPart, ...]] = TypeAdapter(tuple[RewardPart, ...])
ANSWER = "The answer is $\\boxed{7}$."


def rewards_of(episodes: list[Episode], *parts: Any, **settings: Any) -> list[Reward]:
    with Rewards(PARTS.validate_python(parts), **settings) as rewards:
        return rewards.of(episodes)


def test_a_weighted_sum_of_parts() -> None:
    found = rewards_of(
        [episode(ANSWER, tokens=8), episode("Seven hundred.", tokens=20), episode("\\boxed{7}", tokens=12)],
        {"kind": "grader", "weight": 2.0},
        {"kind": "length", "max_tokens": 20, "buffer": 10, "weight": 0.5},
    )
    assert [reward.parts for reward in found] == [
        {"grader": 1.0, "length": 0.0},
        {"grader": 0.0, "length": -1.0},
        {"grader": 1.0, "length": -0.2},
    ]
    assert [reward.total for reward in found] == pytest.approx([2.0, -0.5, 1.9])
    assert not any(reward.failures for reward in found)


def test_a_part_of_the_grade() -> None:
    right, other = rewards_of(
        [episode(ANSWER), episode("I do not know.")], {"kind": "grader", "part": "format"}
    )
    assert (right.total, other.total) == (1.0, 0.0)
    assert right.parts == {"grader_format": 1.0}


def test_what_is_unfinished_or_malformed_is_not_right() -> None:
    cut, turns, malformed, right = rewards_of(
        [
            episode(ANSWER, end=EpisodeEnd.LENGTH),
            episode(ANSWER, end=EpisodeEnd.TURNS),
            episode(f"Hm.</think></think>{ANSWER}", thinking=True),
            episode(f"Hm.</think>{ANSWER}", thinking=True),
        ],
        "grader",
    )
    assert [reward.total for reward in (cut, turns, malformed, right)] == [0, 0, 0, 1]


def test_a_grader_that_hangs_is_ended_and_the_others_are_graded() -> None:
    code = {"name": "code", "tests": ["assert f() == 7"], "entry_point": "f", "seconds": 20}
    loop = episode("```python\nimport time\ndef f():\n    time.sleep(100)\n```", code)
    good = episode("```python\ndef f():\n    return 7\n```", code)
    started = time.monotonic()
    found = rewards_of([loop, good, loop, good], {"kind": "grader", "seconds": 2.5})
    assert time.monotonic() - started < 20
    assert [reward.total == 1.0 for reward in found] == [False, True, False, True]
    assert found[0].failures == ("grader: not done within 2.5 seconds",)
    assert math.isnan(found[0].total)
    assert math.isnan(found[0].parts["grader"])


def test_a_grader_that_raises() -> None:
    unknown, missing, right = rewards_of(
        [episode(ANSWER, {"name": "nothing"}), episode(ANSWER, None), episode(ANSWER)], "grader"
    )
    assert unknown.failures[0].startswith("grader: ArtifactError: grader: unknown grader 'nothing'")
    assert missing.failures == ("grader: the line has no grader",)
    assert math.isnan(unknown.total)
    assert right.total == 1.0


def test_a_part_that_the_grade_lacks() -> None:
    (reward,) = rewards_of([episode(ANSWER)], {"kind": "grader", "part": "beauty"})
    assert "no part 'beauty', but" in reward.failures[0]


def test_a_grader_whose_process_dies_is_started_again() -> None:
    with Rewards(PARTS.validate_python(["grader"])) as rewards:
        assert rewards.of([episode(ANSWER)])[0].total == 1.0
        part: Any = rewards._parts["grader"]
        (worker,) = part._alive
        os.killpg(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
        found = [rewards.of([episode(ANSWER)])[0] for _ in range(os.cpu_count() or 1)]
        found += [rewards.of([episode(ANSWER)])[0] for _ in range(os.cpu_count() or 1)]
    assert sum("process died" in "".join(reward.failures) for reward in found) == 1
    assert [reward.total for reward in found].count(1.0) == len(found) - 1


def test_an_interruption_ends_the_grading() -> None:
    code = {"name": "code", "tests": ["f()"], "entry_point": "f", "seconds": 20}
    loop = episode("```python\nimport time\ndef f():\n    time.sleep(100)\n```", code)
    started = time.monotonic()

    def check() -> None:
        if time.monotonic() - started > 0.5:
            raise InterruptedRunError("interrupted")

    with pytest.raises(InterruptedRunError):
        rewards_of([loop] * 8, "grader", check=check)
    assert time.monotonic() - started < 10


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reward")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    lm = randomized(miniature("M*-", vocab_size=448))
    ScoredLM.of(lm, torch.randn(1, 40, generator=torch.Generator().manual_seed(0))).save(directory)
    return directory


def test_a_reward_model_scores_the_answer_and_not_its_reasoning(reward_model: Path) -> None:
    one, same, other = rewards_of(
        [
            episode("Hm.</think>Seven.", thinking=True),
            episode("Well, well.</think>Seven.", thinking=True),
            episode("Hm.</think>Eight.", thinking=True),
        ],
        {"kind": "model", "path": str(reward_model), "shift": 1.0, "scale": 2.0},
    )
    assert one.total == pytest.approx(same.total, abs=1e-5)
    assert abs(one.total - other.total) > 1e-3
    (plain,) = rewards_of([episode("Seven.")], {"kind": "model", "path": str(reward_model)})
    assert one.total == pytest.approx((plain.total - 1) / 2, abs=1e-5)


def test_a_reward_model_that_gives_nan(reward_model: Path) -> None:
    with Rewards(PARTS.validate_python([{"kind": "model", "path": str(reward_model)}, "grader"])) as rewards:
        part: Any = rewards._parts["model"]
        with torch.no_grad():
            part._model.lm.score_head.weight.fill_(math.nan)
        (reward,) = rewards.of([episode(ANSWER)])
    assert reward.failures == ("model: its value is nan",)
    assert math.isnan(reward.total)
    assert reward.parts["grader"] == 1.0


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint().running() as server:
        yield server


def judge(endpoint: Endpoint, **settings: Any) -> dict[str, Any]:
    return {"kind": "judge", "base_url": endpoint.url, "endpoint_model": "m", "retries": 0, **settings}


def test_a_judge_sees_question_and_answer_and_gives_a_number(endpoint: Endpoint) -> None:
    endpoint.behave = lambda _, prompt: completion("Right.\n9" if "user: What is 3 + 4?" in prompt else "0")
    (reward,) = rewards_of(
        [episode("secret</think>It is {7}.", thinking=True)], judge(endpoint, instruction="Is it kind?")
    )
    assert reward.total == 0.9
    (prompt,) = endpoint.prompts()
    assert prompt.startswith("Is it kind?")
    assert "<answer>\nassistant: It is {7}.\n</answer>" in prompt
    assert "secret" not in prompt


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (completion("Great!"), "0 numbers"),
        (completion("7 or 8"), "2 numbers"),
        (completion("11"), "says 11, which is not from 0 to 10"),
        (completion("-1"), "says -1"),
        (completion("nan"), "0 numbers"),
        (completion(None), "0 numbers"),
        (completion("8", finish_reason="length"), "cut off"),
        (error(500, "broken"), "answered 500 (broken)"),
    ],
)
def test_a_judge_that_gives_no_number(endpoint: Endpoint, answer: Any, reason: str) -> None:
    endpoint.behave = lambda *_: answer
    (reward,) = rewards_of([episode(ANSWER)], judge(endpoint))
    assert reason in reward.failures[0]
    assert math.isnan(reward.total)


def test_a_judge_that_hangs(endpoint: Endpoint) -> None:
    def behave(number: int, _: str) -> Any:
        answer = completion("5")
        answer.hang = 30 if number == 0 else 0
        return answer

    endpoint.behave = behave
    started = time.monotonic()
    found = rewards_of([episode(ANSWER), episode(ANSWER)], judge(endpoint, seconds=1.0, concurrency=1))
    assert time.monotonic() - started < 10
    assert found[0].failures == ("judge: no answer within 1 seconds",)
    assert found[1].total == 0.5


def test_a_judge_that_refuses_everybody_is_an_error_at_once(endpoint: Endpoint) -> None:
    endpoint.behave = lambda *_: error(401, "no key")
    with pytest.raises(UsageError, match="does not accept"):
        rewards_of([episode(ANSWER)] * 20, judge(endpoint, concurrency=1))
    assert len(endpoint.requests) < 20


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["beauty"], "beauty"),
        ([{"kind": "length"}], "max_tokens"),
        ([{"kind": "length", "max_tokens": 5, "buffer": 6}], "above max_tokens"),
        (["{broken"], "neither a kind"),
        ([{"kind": "grader", "weight": math.nan}], "finite"),
        ([{"kind": "grader", "secnds": 1}], "secnds"),
        ([{"kind": "judge", "base_url": "localhost", "endpoint_model": "m"}], "no address"),
    ],
)
def test_settings_that_are_refused(parts: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PARTS.validate_python(parts)


def test_parts_from_the_command_line() -> None:
    assert PARTS.validate_python(['{"kind": "grader", "weight": 0.5}', "grader"])[0].weight == 0.5
