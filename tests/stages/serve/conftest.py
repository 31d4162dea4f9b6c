from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.chat.template import encode
from stages.serve.chat import call_opening
from tests.evals.episodes.office import tokenizer_with_calls
from tests.evals.scripted import END, scripted_model
from tests.stages.serve.running import Running, running

ARGUMENTS = '{"city": "Rome"}'
NAMED = f" {ARGUMENTS}}}]"
WHOLE = f'[{{"name": "weather", "arguments": {ARGUMENTS}}}]'
BROKEN = '[{"name": "weather", "arguments": ]'
ANY = f'weather", "arguments": {ARGUMENTS}}}]'


@pytest.fixture(scope="session")
def server(model: Path) -> Iterator[Running]:
    """A model of random weights, whose greedy texts go on until they are cut."""
    with running(model, name="tiny", slots=4, max_queue=64) as running_server:
        yield running_server


@pytest.fixture(scope="session")
def caller(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that thinks "2" and answers "1", or now and then by a call, which may be broken. It completes a call that was
    begun: some of its tokens are whole calls."""
    directory = tmp_path_factory.mktemp("caller")
    tokenizer = tokenizer_with_calls(
        tokenizer_directory, directory / "tokenizer", (NAMED, ANY, WHOLE, BROKEN)
    )

    def last(text: str) -> str:
        return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][-1:]))

    table = {
        last(call_opening("weather")): NAMED,
        last(call_opening("")): ANY,
        "<TOOLCALL>": {WHOLE: 0.6, BROKEN: 0.4},
        **dict.fromkeys((NAMED, ANY, WHOLE, BROKEN), "</TOOLCALL>"),
        "</TOOLCALL>": END,
        "\n": "2",
        "2": "</think>",
        "</think>": {"1": 0.6, "<TOOLCALL>": 0.4},
        "1": END,
    }
    return scripted_model(directory / "model", directory / "tokenizer", table)


def prompt_ids(tokenizer: Any, text: str, **settings: Any) -> list[int]:
    """The prompt of a chat of one message."""
    messages = [{"role": "user", "content": text}]
    return encode(tokenizer, messages, add_generation_prompt=True, **settings).ids
