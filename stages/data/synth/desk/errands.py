"""The errands of levels 1 and 2: one call; a look and a change."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

from evals.environments.desk.tools import CUSTOMER_STATUSES, DAYS, PEOPLE
from stages.data.synth.desk import names
from stages.data.synth.desk.errand import (
    DONE,
    Call,
    Desk,
    Errand,
    Script,
    act,
    append,
    find,
    found_in,
    put,
    row_with,
)
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings

EVENTS_TOOLS = ("find", "plan", "move", "drop")
TASKS_TOOLS = ("find", "task", "assign", "mark")
CUSTOMERS_TOOLS = ("find", "assign", "mark", "drop")
MESSAGES_TOOLS = ("find", "send", "drop")


@dataclass(frozen=True)
class Named(Errand):
    """About one thing, which is looked for by its name."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class Change(Named):
    """A look for the id, and then the change."""

    @abstractmethod
    def change(self, key: str) -> tuple[Call, ...]:
        """The calls that change the row with that id."""

    def script(self) -> Script:
        (answer,) = yield act("I need its id.", find(self.name))
        ((key, *_),) = found_in(answer)
        yield act(f"It is {key}.", *self.change(key))
        return DONE


@dataclass(frozen=True)
class Plan(Named):
    day: str

    tools = EVENTS_TOOLS
    wordings = Wordings(
        (
            "Put the {name} on {day}.",
            "Plan the {name} for {day}.",
            "On {day} there is the {name}. Put it in.",
            "We have the {name} on {day}. Put it in.",
            "Add the {name} on {day}.",
            "Please plan the {name}. The day is {day}.",
            "There will be the {name} on {day}. Plan it.",
            "The day of the {name} is {day}. Note it.",
        ),
        ("Please put in the {name}. It is on {day}.", "The {name} is new, on {day}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), dice.choice(DAYS))

    def script(self) -> Script:
        yield act("It is new.", ("plan", {"name": self.name, "day": self.day}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "events", self.name, self.day)


@dataclass(frozen=True)
class NewTask(Named):
    person: str

    tools = TASKS_TOOLS
    wordings = Wordings(
        (
            "New task for {person}: {name}.",
            "{person} has a new task: {name}.",
            "Give {person} the new task {name}.",
            "Add the task {name} for {person}.",
            "Note a task for {person}: {name}.",
            "Please give {person} a task, {name}.",
            "The task {name} goes to {person}. It is new.",
            "{person} gets one more task: {name}.",
        ),
        ("The new task {name} is for {person}.", "For {person} there is a new task: {name}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.TASKS), dice.choice(PEOPLE))

    def script(self) -> Script:
        yield act("It is new.", ("task", {"name": self.name, "person": self.person}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "tasks", self.name, self.person, "open")


@dataclass(frozen=True)
class Tell(Errand):
    person: str
    text: str

    tools = MESSAGES_TOOLS
    wordings = Wordings(
        (
            "Tell {person}: {text}.",
            "Send {person} this: {text}.",
            "Write to {person}: {text}.",
            "Please tell {person} this: {text}.",
            "Send a message to {person}: {text}.",
            "{person} has to know: {text}.",
            "Say to {person}: {text}.",
            "Message {person}: {text}.",
        ),
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
class Move(Change):
    before: str
    day: str

    tools = EVENTS_TOOLS
    hidden = ("before",)
    wordings = Wordings(
        ("Move the {name} to {day}.", "The {name} has to be on {day}.", "Put the {name} off to {day}."),
        ("Make the {name} be on {day}.", "To {day} please move the {name}."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), *dice.sample(DAYS, 2))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.before)

    def change(self, key: str) -> tuple[Call, ...]:
        return (("move", {"id": key, "day": self.day}),)

    def apply(self, desk: Desk) -> None:
        row_with(desk, "events", self.name)[2] = self.day


@dataclass(frozen=True)
class Cancel(Change):
    day: str

    tools = EVENTS_TOOLS
    hidden = ("day",)
    wordings = Wordings(
        ("Cancel the {name}.", "There will be no {name}. Drop it.", "Drop the {name}."),
        ("The {name} is off. Cancel it.", "Please drop the {name}, it will not be."),
    )

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(names.EVENTS), dice.choice(DAYS))

    def prepare(self, desk: Desk, dice: Dice) -> None:
        put(desk, "events", dice, self.name, self.day)

    def change(self, key: str) -> tuple[Call, ...]:
        return (("drop", {"id": key}),)

    def apply(self, desk: Desk) -> None:
        desk["events"].remove(row_with(desk, "events", self.name))


@dataclass(frozen=True)
class Finish(Change):
    owner: str
    tools = TASKS_TOOLS
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

    def change(self, key: str) -> tuple[Call, ...]:
        return (("mark", {"id": key, "status": "done"}),)

    def apply(self, desk: Desk) -> None:
        row_with(desk, "tasks", self.name)[3] = "done"


@dataclass(frozen=True)
class HandOver(Change):
    owner: str
    person: str

    tools = TASKS_TOOLS
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

    def change(self, key: str) -> tuple[Call, ...]:
        return (("assign", {"id": key, "person": self.person}),)

    def apply(self, desk: Desk) -> None:
        row_with(desk, "tasks", self.name)[2] = self.person


@dataclass(frozen=True)
class Status(Change):
    owner: str
    before: str
    status: str

    tools = CUSTOMERS_TOOLS
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

    def change(self, key: str) -> tuple[Call, ...]:
        return (("mark", {"id": key, "status": self.status}),)

    def apply(self, desk: Desk) -> None:
        row_with(desk, "customers", self.name)[3] = self.status


@dataclass(frozen=True)
class Reply(Errand):
    thing: str
    note: str
    person: str
    text: str

    tools = MESSAGES_TOOLS
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
        (answer,) = yield act("I need the sender.", find(self.thing))
        ((_, _, person, *_),) = found_in(answer)
        yield act(f"It is {person}.", ("send", {"person": person, "text": self.text}))
        return DONE

    def apply(self, desk: Desk) -> None:
        append(desk, "messages", "to", self.person, self.text)
