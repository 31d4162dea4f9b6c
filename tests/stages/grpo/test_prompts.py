"""Known values: other ones would change every run."""

from evals.episodes.task import Task
from stages.grpo.prompts import Prompts

TASKS = [Task([{"role": "user", "content": name}], None, None, None, name, name) for name in "abcd"]


def test_seeds_and_thinking_belong_to_the_number() -> None:
    prompts = Prompts({"letters": (TASKS, 1.0)}, 100, 3, "mixed")
    assert prompts.seeds(4, 2)[1] == 856218117050377408
    assert len({seed for number in range(50) for seed in prompts.seeds(number, 4)}) == 200
    thinking = [prompts.task(number).thinking for number in range(100)]
    assert thinking[4] is True
    assert 35 < sum(map(bool, thinking)) < 65
