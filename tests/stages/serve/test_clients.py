"""Many clients at a time, of whom some leave in the middle: every other gets what it would get alone, and no row is lost."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.stages.serve.running import Running, running

PROMPTS = ["Once upon a time", "The old house", "x", "A girl who lived in the wood " * 3, "1 2 3"]
LENGTHS = (3, 17, 40)
ENDLESS = 900_000
"""What a client asks for that leaves: only being cancelled ends it in the time of a test."""


def settings(prompt: str, length: int) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": length, "temperature": 0}


async def client(
    api: openai.AsyncOpenAI,
    number: int,
    end: float,
    expected: dict[tuple[str, int], str],
    answered: list[int],
) -> None:
    dice = random.Random(number)
    while time.monotonic() < end:
        asked = dice.choice(PROMPTS), dice.choice(LENGTHS)
        what = dice.random()
        if what < 0.25:  # leaves while the answer is being streamed
            stream = await api.completions.create(**settings(asked[0], ENDLESS), stream=True)
            async for _ in stream:
                if dice.random() < 0.3:
                    break
            await stream.close()
        elif what < 0.4:  # leaves while it waits
            asking = asyncio.create_task(api.completions.create(**settings(asked[0], ENDLESS)))
            await asyncio.sleep(dice.random() * 0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        elif what < 0.7:
            stream = await api.completions.create(**settings(*asked), stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == expected[asked]
            answered.append(number)
        else:
            answer = await api.completions.create(**settings(*asked))
            assert answer.choices[0].text == expected[asked]
            answered.append(number)


def crowd(server: Running, clients: int, seconds: float) -> None:
    api = server.client()
    expected = {
        (prompt, length): api.completions.create(**settings(prompt, length)).choices[0].text
        for prompt in PROMPTS
        for length in LENGTHS
    }
    answered: list[int] = []

    async def main() -> None:
        end = time.monotonic() + seconds
        async with server.asynchronous() as shared:
            await asyncio.gather(
                *(client(shared, number, end, expected, answered) for number in range(clients))
            )

    asyncio.run(main())
    assert len(answered) > clients / 2
    server.wait_for(running=0, waiting=0)
    assert api.completions.create(**settings(*next(iter(expected)))).choices[0].text == next(
        iter(expected.values())
    )


def test_a_few_clients(model: Path) -> None:
    with running(model, name="tiny", slots=3, max_queue=20, max_length="1M") as server:
        crowd(server, clients=8, seconds=3)


@pytest.mark.slow
def test_fifty_clients(model: Path) -> None:
    with running(model, name="tiny", slots=8, max_queue=100, max_length="1M") as server:
        crowd(server, clients=50, seconds=30)
