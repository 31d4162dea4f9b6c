"""What the help page says of the rewards can be written."""

import re

from nano2cli.options import FieldOption
from stages.common.rewards.settings import LengthReward
from stages.grpo.config import GrpoConfig


def test_the_example_of_the_help_page_is_a_reward() -> None:
    field = GrpoConfig.model_fields["rewards"]
    assert FieldOption.of("rewards", field).metavar == "grader|JSON"
    written = re.search("'(.*)'", field.description or "")
    assert written
    config = GrpoConfig.model_validate(
        {"model": "m", "data": ["d"], "steps": 1, "rewards": ["grader", written[1]]}
    )
    assert isinstance(config.rewards[1], LengthReward)
