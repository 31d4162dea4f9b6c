"""The errands of level 3: a choice, a condition, two looks or two changes."""

from dataclasses import dataclass
from typing import Self

from evals.environments.desk.tools import CUSTOMER_STATUSES, DAYS, PEOPLE
from stages.data.synth.desk import names
from stages.data.synth.desk.errand import (
    DONE,
    UNCHANGED,
    Call,
    Desk,
    Errand,
    Report,
    Script,
    act,
    append,
    find,
    found_in,
    put,
    row_with,
)
from stages.data.synth.desk.errands import CUSTOMERS_TOOLS, EVENTS_TOOLS, Change, Named
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings


@dataclass(frozen=True)
class MoveOne(Named):
    """There are two of the name."""

    before: str
    other: str
    day: str

    tools = EVENTS_TOOLS
    hidden = ("other",)
    wordings = Wordings(
        (
            "Move the {name} on {before} to {day}.",
            "There are two, but move the {name} on {before} to {day}.",
            "The {before} {name} has to be on {day}.",
        ),
        ("Make the {name} of {before} be on {day}.", "To {day} please move the {before} {name}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), *dice.sample(DAYS, 3))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        for day in (self.before, self.other):
            put(desk, "events", dice, self.name, day)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", find(self.name))
        (key,) = (key for key, *_, day in found_in(answer) if day == self.before)
        reasoning = f"On {self.before} it is {key}."
        yield act(reasoning, ("move", {"id": key, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name, self.before)[2] = self.day


@dataclass(frozen=True)
class MoveIf(Named):
    """The condition holds or does not."""

    asked: str
    before: str
    day: str

    tools = EVENTS_TOOLS
    hidden = ("before",)
    wordings = Wordings(
        (
            "If the {name} is on {asked}, move it to {day}.",
            "Is the {name} on {asked}? Then move it to {day}.",
            "Move the {name} to {day} if it is on {asked}.",
        ),
        (
            "In case the {name} is on {asked}, move it to {day}.",
            "To {day} with the {name}, if it is on {asked}.",
        ),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        asked, other, day = dice.sample(DAYS, 3)
        return cls(dice.choice(names.EVENTS), asked, asked if dice.chance(0.5) else other, day)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.before)

    def script(self) -> Script:
        (answer,) = yield act("I see when it is.", find(self.name))
        ((key, *_, day),) = found_in(answer)
        if day != self.asked:
            return Report(f"It is on {day}, not {self.asked}.", UNCHANGED)
        reasoning = f"It is on {day}, and it is {key}."
        yield act(reasoning, ("move", {"id": key, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        if self.before == self.asked:
            row_with(desk, "events", self.name)[2] = self.day


@dataclass(frozen=True)
class SameDay(Errand):
    """The day is to be looked up."""

    name: str
    other: str
    before: str
    day: str

    tools = EVENTS_TOOLS
    hidden = ("before", "day")
    wordings = Wordings(
        ("Move the {name} to the day of the {other}.", "Put the {name} on the same day as the {other}."),
        ("The {name} has to be on the day of the {other}.",),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(*dice.sample(names.EVENTS, 2), *dice.sample(DAYS, 2))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.other)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.before)
        put(desk, "events", dice, self.other, self.day)

    def script(self) -> Script:
        answers = yield act("I need id and day.", find(self.name), find(self.other))
        ((key, *_),), ((*_, day),) = map(found_in, answers)
        reasoning = f"It is {key}, and the day is {day}."
        yield act(reasoning, ("move", {"id": key, "day": day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name)[2] = self.day


@dataclass(frozen=True)
class TellOwner(Named):
    """Two tables: whose task, and a message."""

    owner: str
    text: str

    tools = ("find", "task", "assign", "send")
    hidden = ("owner",)
    wordings = Wordings(
        (
            "Tell the owner of the task {name}: {text}.",
            "Who has the task {name}? Tell them: {text}.",
            "Write to the one who has the task {name}: {text}.",
        ),
        ("The one with the task {name} has to know: {text}.", "To the owner of the task {name}: {text}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.TASKS), dice.choice(PEOPLE), dice.choice(names.TEXTS))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "tasks", dice, self.name, self.owner, "open")

    def script(self) -> Script:
        (answer,) = yield act("I need the owner.", find(self.name))
        ((*_, person, _),) = found_in(answer)
        yield act(f"It is {person}.", ("send", {"person": person, "text": self.text}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "messages", "to", self.owner, self.text)


@dataclass(frozen=True)
class DropLost(Named):
    """A condition on a customer."""

    owner: str
    status: str

    tools = CUSTOMERS_TOOLS
    hidden = ("owner", "status")
    wordings = Wordings(
        (
            "If {name} is lost, drop it.",
            "Is {name} lost? Then drop it.",
            "Drop the customer {name} if it is lost.",
        ),
        ("In case {name} is lost, drop it.", "Drop {name}, but only if it is lost."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        status = "lost" if dice.chance(0.5) else dice.choice(CUSTOMER_STATUSES[:-1])
        return cls(dice.choice(names.CUSTOMERS), dice.choice(PEOPLE), status)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "customers", dice, self.name, self.owner, self.status)

    def script(self) -> Script:
        (answer,) = yield act("I see what it is.", find(self.name))
        ((key, *_, status),) = found_in(answer)
        if status != "lost":
            return Report(f"It is {status}, not lost.", UNCHANGED)
        yield act(f"It is lost, and it is {key}.", ("drop", {"id": key}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row = row_with(desk, "customers", self.name)
        if row[3] == "lost":
            desk["customers"].remove(row)


@dataclass(frozen=True)
class CancelAndTell(Change):
    """Two changes in two tables."""

    day: str
    person: str
    text: str

    tools = ("find", "move", "drop", "send")
    hidden = ("day",)
    wordings = Wordings(
        (
            "Cancel the {name} and tell {person}: {text}.",
            "Drop the {name}. Then write to {person}: {text}.",
        ),
        ("The {name} is off. Cancel it and tell {person}: {text}.",),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        texts = dice.choice(names.TEXTS)
        return cls(dice.choice(names.EVENTS), dice.choice(DAYS), dice.choice(PEOPLE), texts)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.day)

    def change(self, key: str) -> tuple[Call, ...]:
        return ("drop", {"id": key}), ("send", {"person": self.person, "text": self.text})

    def apply(self, desk: Desk) -> None:
        desk["events"].remove(row_with(desk, "events", self.name))
        append(desk, "messages", "to", self.person, self.text)
