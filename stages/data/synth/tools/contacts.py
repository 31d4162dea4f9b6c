"""An address book: people with a telephone number and a town."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.errand import Ask, Errand, Report, Script, act, number_in, vague
from stages.data.synth.tools.service import Service, State, ToolFault, text
from stages.data.synth.words import PEOPLE, SURNAMES, word_list

_TOWNS = word_list(
    """Ashford Brookby Crowhill Dunmere Eastwick Fallow Greenham Holt Inchley Kingsby Langley Marsh"""
)


class Contacts(Service):
    prompt: ClassVar = "You keep an address book. Use the tools, and ask when you need to know more."
    tools: ClassVar = {
        "find_contact": ("List the contacts of a name.", {"name": text("Full name")}),
        "add_contact": (
            "Add a contact.",
            {"name": text("Full name"), "phone": text("Telephone number"), "town": text("Town")},
        ),
        "change_contact": (
            "Change the number or the town of a contact.",
            {
                "contact_id": text("Id of the contact"),
                "field": text("What to change", "phone", "town"),
                "value": text("The new value"),
            },
        ),
        "delete_contact": ("Delete a contact.", {"contact_id": text("Id of the contact")}),
    }

    @classmethod
    def new(cls, dice: Dice) -> State:
        return {"contacts": {}, "next": dice.integer(100, 900)}

    @classmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        """Somebody more, whose name no other contact has."""
        names = {contact["name"] for contact in state["contacts"].values()}
        name = _name(dice)
        if name not in names:
            put(state, name, _phone(dice), dice.choice(_TOWNS), dice)

    def find_contact(self, name: str) -> Any:
        found = [
            {"contact_id": key, **contact}
            for key, contact in self.state["contacts"].items()
            if contact["name"].lower() == name.lower()
        ]
        if not found:
            raise ToolFault(f"nobody is called {name}")
        return found

    def add_contact(self, name: str, phone: str, town: str) -> Any:
        identifier = f"P{self.state['next']}"
        self.state["next"] += 1
        self.state["contacts"][identifier] = {"name": name, "phone": phone, "town": town}
        return {"contact_id": identifier}

    def change_contact(self, contact_id: str, field: str, value: str) -> Any:
        self._check(contact_id)
        self.state["contacts"][contact_id][field] = value
        return {field: value}

    def delete_contact(self, contact_id: str) -> Any:
        self._check(contact_id)
        del self.state["contacts"][contact_id]
        return {"deleted": contact_id}

    def _check(self, contact_id: str) -> None:
        if contact_id not in self.state["contacts"]:
            raise ToolFault(f"there is no contact {contact_id}")


def put(state: State, name: str, phone: str, town: str, dice: Dice) -> None:
    identifier = number_in(state, "contacts", "P", dice)
    state["contacts"][identifier] = {"name": name, "phone": phone, "town": town}


def _name(dice: Dice) -> str:
    return f"{dice.choice(PEOPLE)} {dice.choice(SURNAMES)}"


def _phone(dice: Dice) -> str:
    return f"555{dice.integer(1000, 9999)}"


def _id(state: State, name: str, town: str) -> str:
    return next(
        key
        for key, contact in state["contacts"].items()
        if (contact["name"], contact["town"]) == (name, town)
    )


@dataclass(frozen=True)
class _Person(Errand):
    name: str
    phone: str
    town: str

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(_name(dice), _phone(dice), dice.choice(_TOWNS))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, state: State, dice: Dice) -> None:
        put(state, self.name, self.phone, self.town, dice)

    def _look_up(self) -> Any:
        (found,) = yield act(f"I look for {self.name}.", ("find_contact", {"name": self.name}), decisive=True)
        return found


@dataclass(frozen=True)
class Number(_Person):
    wordings = Wordings(
        ("What is the number of {name}?", "I want to call {name}. Which number is it?"),
        ("How do I reach {name} by phone?",),
    )
    aim = "a telephone number"

    def script(self) -> Script:
        found = yield from self._look_up()
        phone = found[0]["phone"]
        return Report(f"The entry says {phone}.", f"{self.name} has the number {phone}.", (phone,))

    def facts(self) -> tuple[str, ...]:
        return (self.phone,)


@dataclass(frozen=True)
class AddPerson(_Person):
    wordings = Wordings(
        ("Add {name} from {town} with the number {phone}.", "New contact: {name}, {town}, {phone}."),
        ("I met {name}, who lives in {town} and can be called at {phone}. Please note that.",),
    )
    vague = vague(
        "Add {name} from {town} to the book.",
        "{name} from {town} should be in the book.",
        "What is the telephone number?",
        "It is {phone}.",
    )
    aim = "a new contact"

    def prepare(self, state: State, dice: Dice) -> None:
        pass

    def script(self) -> Script:
        arguments = {"name": self.name, "phone": self.phone, "town": self.town}
        yield act("Name, number and town are known.", ("add_contact", arguments), decisive=True)
        content = f"{self.name} from {self.town} is in the book with the number {self.phone}."
        return Report("The contact is added.", content, (self.name, self.phone))

    def apply(self, state: State) -> None:
        state["contacts"][f"P{state['next']}"] = {"name": self.name, "phone": self.phone, "town": self.town}
        state["next"] += 1

    def facts(self) -> tuple[str, ...]:
        return (self.name, self.phone)


@dataclass(frozen=True)
class Change(_Person):
    new: str

    wordings = Wordings(
        ("{name} has a new number: {new}.", "Change the number of {name} to {new}."),
        ("From now on {name} answers at {new}. Please correct the entry.",),
    )
    vague = vague(
        "{name} has a new number.",
        "The number of {name} is out of date.",
        "What is the new number?",
        "It is {new}.",
    )
    aim = "to change a number"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(_name(dice), _phone(dice), dice.choice(_TOWNS), _phone(dice))

    def script(self) -> Script:
        found = yield from self._look_up()
        identifier = found[0]["contact_id"]
        arguments = {"contact_id": identifier, "field": "phone", "value": self.new}
        yield act(f"The contact is {identifier}.", ("change_contact", arguments), decisive=True)
        return Report(
            "The number is changed.", f"{self.name} now has the number {self.new}.", (self.name, self.new)
        )

    def apply(self, state: State) -> None:
        state["contacts"][_id(state, self.name, self.town)]["phone"] = self.new

    def facts(self) -> tuple[str, ...]:
        return (self.name, self.new)


@dataclass(frozen=True)
class Delete(_Person):
    """Two people share the name, so the assistant has to ask."""

    other: str

    wordings = Wordings(
        ("Delete {name} from the book.", "I no longer need the entry of {name}."),
        ("Please strike out {name}.",),
    )
    aim = "to delete a contact"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        town, other = dice.sample(_TOWNS, 2)
        return cls(_name(dice), _phone(dice), town, other)

    def prepare(self, state: State, dice: Dice) -> None:
        for town in dice.shuffled((self.town, self.other)):
            put(state, self.name, self.phone if town == self.town else _phone(dice), town, dice)

    def script(self) -> Script:
        found = yield from self._look_up()
        first, second = (contact["town"] for contact in found)
        yield Ask(
            "Two people have this name, so I ask which one is meant.",
            f"Do you mean {self.name} from {first} or from {second}?",
            f"The one from {self.town}.",
        )
        identifier = {contact["town"]: contact["contact_id"] for contact in found}[self.town]
        yield act(
            f"{self.name} from {self.town} is {identifier}.",
            ("delete_contact", {"contact_id": identifier}),
            decisive=True,
        )
        return Report(
            "It is deleted.",
            f"{self.name} from {self.town} is no longer in the book.",
            (self.name, self.town),
        )

    def apply(self, state: State) -> None:
        del state["contacts"][_id(state, self.name, self.town)]

    def facts(self) -> tuple[str, ...]:
        return (self.name, self.town)


ERRANDS: tuple[type[Errand], ...] = (Number, AddPerson, Change, Delete)
