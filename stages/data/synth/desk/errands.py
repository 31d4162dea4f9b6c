"""The errands of each level: one call; a look and a call; a choice, a condition or two looks before the call."""

from dataclasses import dataclass
from typing import Any, Self

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
    found_in,
    put,
    row_with,
)
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings

_EVENTS = ("find", "plan", "move", "drop")
_TASKS = ("find", "task", "assign", "mark")
_CUSTOMERS = ("find", "assign", "mark", "drop")
_MESSAGES = ("find", "send", "drop")


def _find(text: str) -> Call:
    return "find", {"text": text}


@dataclass(frozen=True)
class Plan(Errand):
    name: str
    day: str

    tools = _EVENTS
    wordings = Wordings(
        (
            "Put the {name} on {day}.",
            "Plan the {name} for {day}.",
            "On {day} there is the {name}. Put it in.",
        ),
        ("Please put in the {name}. It is on {day}.", "The {name} is new, on {day}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), dice.choice(DAYS))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def script(self) -> Script:
        yield act("It is new.", ("plan", {"name": self.name, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "events", self.name, self.day)


@dataclass(frozen=True)
class NewTask(Errand):
    name: str
    person: str

    tools = _TASKS
    wordings = Wordings(
        (
            "New task for {person}: {name}.",
            "{person} has a new task: {name}.",
            "Give {person} the new task {name}.",
        ),
        ("The new task {name} is for {person}.", "For {person} there is a new task: {name}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.TASKS), dice.choice(PEOPLE))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def script(self) -> Script:
        yield act("It is new.", ("task", {"name": self.name, "person": self.person}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "tasks", self.name, self.person, "open")


@dataclass(frozen=True)
class Tell(Errand):
    person: str
    text: str

    tools = _MESSAGES
    wordings = Wordings(
        ("Tell {person}: {text}.", "Send {person} this: {text}.", "Write to {person}: {text}."),
        ("A message for {person}: {text}.", "Let {person} know this: {text}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(PEOPLE), dice.choice(names.TEXTS))

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.person} {self.text}",)

    def script(self) -> Script:
        yield act("I know all.", ("send", {"person": self.person, "text": self.text}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "messages", "to", self.person, self.text)


@dataclass(frozen=True)
class Move(Errand):
    name: str
    before: str
    day: str

    tools = _EVENTS
    hidden = ("before",)
    wordings = Wordings(
        ("Move the {name} to {day}.", "The {name} has to be on {day}.", "Put the {name} off to {day}."),
        ("Make the {name} be on {day}.", "To {day} please move the {name}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), *dice.sample(DAYS, 2))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.before)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", ("move", {"id": key, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name)[2] = self.day


@dataclass(frozen=True)
class Cancel(Errand):
    name: str
    day: str

    tools = _EVENTS
    hidden = ("day",)
    wordings = Wordings(
        ("Cancel the {name}.", "There will be no {name}. Drop it.", "Drop the {name}."),
        ("The {name} is off. Cancel it.", "Please drop the {name}, it will not be."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), dice.choice(DAYS))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.day)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", ("drop", {"id": key}))
        return DONE

    def apply(self, desk: Desk) -> None:
        desk["events"].remove(row_with(desk, "events", self.name))


@dataclass(frozen=True)
class _OfOwner(Errand):
    """About a row that has an owner."""

    name: str
    owner: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class Finish(_OfOwner):
    tools = _TASKS
    hidden = ("owner",)
    wordings = Wordings(
        ("The task {name} is done.", "Mark the task {name} as done.", "Done: the task {name}."),
        ("We are done with the task {name}.", "Please mark the task {name}, it is done."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.TASKS), dice.choice(PEOPLE))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "tasks", dice, self.name, self.owner, "open")

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", ("mark", {"id": key, "status": "done"}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "tasks", self.name)[3] = "done"


@dataclass(frozen=True)
class HandOver(_OfOwner):
    person: str

    tools = _TASKS
    hidden = ("owner",)
    wordings = Wordings(
        (
            "Give the task {name} to {person}.",
            "The task {name} goes to {person}.",
            "{person} will do the task {name}.",
        ),
        ("Let {person} have the task {name}.", "The task {name} is for {person} now."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.TASKS), *dice.sample(PEOPLE, 2))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "tasks", dice, self.name, self.owner, "open")

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", ("assign", {"id": key, "person": self.person}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "tasks", self.name)[2] = self.person


@dataclass(frozen=True)
class Status(_OfOwner):
    before: str
    status: str

    tools = _CUSTOMERS
    hidden = ("owner", "before")
    wordings = Wordings(
        ("Mark {name} as {status}.", "The customer {name} is {status}.", "{name} is {status} now."),
        ("Please mark the customer {name} as {status}.", "From now on {name} is {status}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.CUSTOMERS), dice.choice(PEOPLE), *dice.sample(CUSTOMER_STATUSES, 2))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "customers", dice, self.name, self.owner, self.before)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", ("mark", {"id": key, "status": self.status}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "customers", self.name)[3] = self.status


@dataclass(frozen=True)
class Reply(Errand):
    thing: str
    note: str
    person: str
    text: str

    tools = _MESSAGES
    hidden = ("note", "person")
    wordings = Wordings(
        (
            "Answer the message about the {thing}: {text}.",
            "Reply to the one who wrote about the {thing}: {text}.",
            "Who wrote about the {thing}? Tell them: {text}.",
        ),
        ("There is a message about the {thing}. Answer: {text}.", "Reply about the {thing}: {text}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        thing = dice.choice(names.THINGS)
        return cls(thing, names.note(thing, dice), dice.choice(PEOPLE), dice.choice(names.TEXTS))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.thing,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "messages", dice, "from", self.person, self.note)

    def script(self) -> Script:
        (answer,) = yield act("I need the sender.", _find(self.thing))
        ((_, _, person, *_),) = found_in(answer)
        yield act(f"It is {person}.", ("send", {"person": person, "text": self.text}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "messages", "to", self.person, self.text)


@dataclass(frozen=True)
class MoveOne(Errand):
    """There are two of the name."""

    name: str
    before: str
    other: str
    day: str

    tools = _EVENTS
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

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        for day in (self.before, self.other):
            put(desk, "events", dice, self.name, day)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        (key,) = (key for key, *_, day in found_in(answer) if day == self.before)
        reasoning = f"On {self.before} it is {key}."
        yield act(reasoning, ("move", {"id": key, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name, self.before)[2] = self.day


@dataclass(frozen=True)
class MoveIf(Errand):
    """The condition holds or does not."""

    name: str
    asked: str
    before: str
    day: str

    tools = _EVENTS
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

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.before)

    def script(self) -> Script:
        (answer,) = yield act("I see when it is.", _find(self.name))
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

    tools = _EVENTS
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
        answers = yield act("I need id and day.", _find(self.name), _find(self.other))
        ((key, *_),), ((*_, day),) = map(found_in, answers)
        reasoning = f"It is {key}, and the day is {day}."
        yield act(reasoning, ("move", {"id": key, "day": day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name)[2] = self.day


@dataclass(frozen=True)
class TellOwner(_OfOwner):
    """Two tables: whose task, and a message."""

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
        (answer,) = yield act("I need the owner.", _find(self.name))
        ((*_, person, _),) = found_in(answer)
        yield act(f"It is {person}.", ("send", {"person": person, "text": self.text}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "messages", "to", self.owner, self.text)


@dataclass(frozen=True)
class DropLost(_OfOwner):
    """A condition on a customer."""

    status: str

    tools = _CUSTOMERS
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
        (answer,) = yield act("I see what it is.", _find(self.name))
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
class CancelAndTell(Errand):
    """Two changes in two tables."""

    name: str
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

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.day)

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", _find(self.name))
        ((key, *_),) = found_in(answer)
        message: dict[str, Any] = {"person": self.person, "text": self.text}
        yield act(f"It is {key}.", ("drop", {"id": key}), ("send", message))
        return DONE

    def apply(self, desk: Desk) -> None:
        desk["events"].remove(row_with(desk, "events", self.name))
        append(desk, "messages", "to", self.person, self.text)


LEVELS: tuple[tuple[type[Errand], ...], ...] = (
    (Plan, NewTask, Tell),
    (Move, Cancel, Finish, HandOver, Status, Reply),
    (MoveOne, MoveIf, SameDay, TellOwner, DropLost, CancelAndTell),
)
"""The errands of levels 1, 2 and 3."""
