"""An errand at the desk as a problem: played by its script, and kept as the reference."""

import copy
import json
from dataclasses import dataclass
from typing import Any

from evals.environments.desk.tools import SHAPES, TOOLS, new_session, new_tables, signatures
from stages.data.synth.desk.errand import DONE, Act, Desk, Errand, Report
from stages.data.synth.desk.errands import (
    Cancel,
    Finish,
    HandOver,
    Move,
    NewTask,
    Plan,
    Reply,
    Status,
    Tell,
)
from stages.data.synth.desk.hard_errands import (
    CancelAndTell,
    DropLost,
    MoveIf,
    MoveOne,
    SameDay,
    TellOwner,
)
from stages.data.synth.desk.names import furnish
from stages.data.synth.dice import Dice
from stages.data.synth.problem import FLAWED, Problem, Sample, Style, assistant, user

LEVELS: tuple[tuple[type[Errand], ...], ...] = (
    (Plan, NewTask, Tell),
    (Move, Cancel, Finish, HandOver, Status, Reply),
    (MoveOne, MoveIf, SameDay, TellOwner, DropLost, CancelAndTell),
)
"""The errands of levels 1, 2 and 3."""

MAX_LEVEL = len(LEVELS)


@dataclass(frozen=True)
class DeskProblem(Problem):
    """One errand, and a number that says what else is on the desk."""

    errand: Errand
    rest: int

    @property
    def content(self) -> Any:
        return [self.errand.content, self.rest]

    @property
    def essence(self) -> Any:
        """What the user says, in whatever words and whatever is on the desk."""
        return self.errand.said

    def write(self, dice: Dice, style: Style) -> Sample:
        """AssertionError if the script does not come to the state that is wanted: a bug."""
        desk = self._desk()
        wanted = copy.deepcopy(desk)
        self.errand.apply(wanted)
        wording, text = self.errand.wordings.pick(dice, style.held_out)
        system = f"Tools: {signatures(self.errand.tools)}."
        messages = [{"role": "system", "content": system}, user(text.format(**self.errand.parameters))]
        session, script, changes = new_session(new_tables(desk)), self.errand.script(), []
        step: Act | Report = next(script)
        while isinstance(step, Act):
            answers = [session.call(*call) for call in step.calls]
            messages += _turn(step, answers)
            changes += [
                {"name": name, "arguments": arguments}
                for name, arguments in step.calls
                if TOOLS[name].changes
            ]
            try:
                step = script.send(answers)
            except StopIteration as stop:
                step = stop.value
        messages.append(assistant(step.content, step.reasoning))
        if not session.tables.same(new_tables(wanted)):
            raise AssertionError(f"the script of {self.errand} comes to another state than the wanted one")
        errand = type(self.errand).__name__
        metadata = {"errand": errand, "template": f"{errand}-{wording}", "changes": len(changes)}
        if style.flawed and changes:
            messages = [*messages[:2], assistant(DONE.content, DONE.reasoning)]
            metadata[FLAWED] = True
        return Sample(messages, {"name": "desk", "state": desk, "calls": changes}, metadata)

    def _desk(self) -> Desk:
        dice = Dice("desk", json.dumps(self.content))
        desk: Desk = {name: [] for name in SHAPES}
        self.errand.prepare(desk, dice)
        furnish(desk, self.errand.names, dice)
        return desk


def draw(level: int, dice: Dice) -> DeskProblem:
    return DeskProblem(dice.choice(LEVELS[level - 1]).draw(dice), dice.below(1_000_000))


def _turn(step: Act, answers: list[str]) -> list[dict[str, Any]]:
    """The assistant's turn and the results, as chat messages."""
    message = assistant("", step.reasoning)
    message["tool_calls"] = [
        {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments in step.calls
    ]
    return [message, *({"role": "tool", "content": answer} for answer in answers)]
