"""All families of problems."""

from collections.abc import Sequence
from functools import partial

from stages.data.synth.desk import episode
from stages.data.synth.instructions import prompts
from stages.data.synth.problem import Family
from stages.data.synth.reasoning.base import ReasoningProblem
from stages.data.synth.reasoning.dates import Dates
from stages.data.synth.reasoning.logic import Booleans
from stages.data.synth.reasoning.numbers import Columns, Products, Remainders, Sums
from stages.data.synth.reasoning.places import Graphs, Grid
from stages.data.synth.reasoning.recall import Copies
from stages.data.synth.reasoning.sequences import Counting, Letters, Lists, Ordering
from stages.data.synth.reasoning.variables import Chains, Equations
from stages.data.synth.reasoning.world import Stories, Units
from stages.data.synth.tools import contacts, dialogue, library, stock, timetable, todo
from stages.data.synth.tools.errand import Errand
from stages.data.synth.tools.service import Service


def _reasoning(*problems: type[ReasoningProblem]) -> list[Family]:
    return [
        Family(problem.__name__.lower(), "reasoning", problem.draw, problem.max_level) for problem in problems
    ]


def _instructions(*names: str) -> list[Family]:
    return [Family(name, "instructions", partial(prompts.draw, name), prompts.MAX_LEVEL) for name in names]


def _tools(service: type[Service], errands: tuple[type[Errand], ...]) -> Family:
    name = service.__name__.lower()
    return Family(name, "tools", partial(dialogue.draw, name, service, errands), dialogue.MAX_LEVEL)


_ALL: Sequence[Family] = (
    *_reasoning(Sums, Columns, Products, Remainders, Chains, Equations, Booleans),
    *_reasoning(Counting, Letters, Ordering, Lists, Grid, Graphs, Dates, Units, Stories),
    *_instructions("keywords", "length", "layout", "style", "whole"),
    _tools(library.Library, library.ERRANDS),
    _tools(todo.Todo, todo.ERRANDS),
    _tools(stock.Stock, stock.ERRANDS),
    _tools(timetable.Timetable, timetable.ERRANDS),
    _tools(contacts.Contacts, contacts.ERRANDS),
    Family("desk", "desk", episode.draw, episode.MAX_LEVEL),
    Family("copies", "recall", Copies.draw, Copies.max_level),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
"""Family by name. The order is part of what makes a seed reproducible."""
