"""The prompts of a run in their order: each a function of its number alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from evals.episodes.task import Task
from model.errors import ArtifactError
from model.seeds import seed64
from stages.common.data.blending import BlendedOrder
from stages.common.data.sources import resolve_sources
from stages.common.data.tasks import read_tasks
from stages.common.reporter import Reporter


def read_prompts(
    paths: Iterable[tuple[Path, float]],
    tokenizer: Any,
    *,
    longest: int,
    graded: bool,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> dict[str, tuple[list[Task], float]]:
    """Of each source its tasks and its weight. Prompts of `longest` tokens or more are left out and counted.

    Raises:
        ArtifactError: a line that is no question, one without a grader where answers are to be `graded`, or a source
            without a prompt that fits.
    """
    found: dict[str, tuple[list[Task], float]] = {}
    for source in resolve_sources(paths):
        tasks, left_out = read_tasks(source.files, tokenizer, longest=longest, graded=graded, check=check)
        too_long = left_out.count
        if not tasks:
            raise ArtifactError(
                f"all {too_long} prompts have {longest} tokens or more" if too_long else "has no prompts",
                where=str(source.files[0]),
                remedy="raise seq_len" if too_long else "give it some, or leave it out",
            )
        if too_long:
            reporter.warn(f"{source.name}: {too_long} prompts of {longest} tokens or more are left out")
        found[source.name] = tasks, source.weight
    return found


class Prompts:
    """Prompt `number` of a run, from 0: sources blended, each epoch of a source in an order of its own.

    thinking: as the line says, always, never, or by chance ("mixed", which the number decides).
    """

    def __init__(
        self,
        tasks: dict[str, tuple[list[Task], float]],
        total: int,
        seed: int,
        thinking: Literal["data", "on", "off", "mixed"],
    ) -> None:
        self._tasks = {name: list(each) for name, (each, _) in tasks.items()}
        shares = {name: len(each) * weight for name, (each, weight) in tasks.items()}
        self._order = BlendedOrder(
            {name: len(each) for name, each in self._tasks.items()}, [shares], total, seed, ()
        )
        self._seed = seed
        self._thinking = thinking

    def task(self, number: int) -> Task:
        source, row = self._order[number]
        task = self._tasks[source][row]
        if self._thinking == "data":
            return task
        on = self._thinking == "on"
        if self._thinking == "mixed":
            on = bool(self._draw("thinking", number) & 1)
        return replace(task, thinking=on)

    def seeds(self, number: int, samples: int) -> Sequence[int]:
        """Of the episodes of prompt `number`."""
        return [self._draw("episode", number, sample) for sample in range(samples)]

    def _draw(self, *what: str | int) -> int:
        """63 bits that depend on the seed and on this alone."""
        return seed64(" ".join(map(str, (self._seed, *what)))) >> 1
