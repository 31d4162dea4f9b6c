"""Preference pairs beside the rows: a reference answer, and another problem's answer that the grader refuses here.

Only problems that are answered in one turn of text have pairs: reasoning and instructions.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from evals.graders.grade import grade_text

_REMEMBERED = 8
"""Earlier answers of a family, of which the latest is taken that is wrong here."""


class Pairing:
    """Pairs of the rows of one file, in the order in which they are drawn."""

    def __init__(self) -> None:
        self._answers: dict[str, deque[dict[str, Any]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def of(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """The pair of a row; None while no earlier answer of its family is wrong for it.

        `strength` is what the rejected answer lacks of full marks.
        """
        messages: Sequence[dict[str, Any]] = line.get("messages", ())
        if [message["role"] for message in messages] != ["user", "assistant"]:
            return None
        chosen, earlier = messages[-1], self._answers[line["metadata"]["family"]]
        found = next(((other, lack) for other in reversed(earlier) if (lack := _lack(line, other))), None)
        earlier.append(chosen)
        if found is None:
            return None
        rejected, strength = found
        kept = {key: line[key] for key in ("id", "thinking", "metadata")}
        return {
            "prompt": messages[:-1],
            "chosen": [chosen],
            "rejected": [rejected],
            "strength": strength,
            **kept,
        }


def _lack(line: dict[str, Any], answer: dict[str, Any]) -> float:
    return 1 - grade_text(line["grader"], answer["content"]).score
