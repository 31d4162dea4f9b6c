"""A stock room: how many of each thing there are, and orders of more."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.errand import Errand, Report, Script, act, expect_refusal, vague
from stages.data.synth.tools.service import Service, State, ToolFault, integer, text
from stages.data.synth.words import THINGS

_ITEM = {"item": text("Name of the thing, in the singular")}
_ITEM_AND_QUANTITY = {**_ITEM, "quantity": integer("How many")}
_COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")


class Stock(Service):
    prompt: ClassVar = "You look after a stock room. Use the tools, and ask when you need to know more."
    tools: ClassVar = {
        "check_stock": ("Say how many of a thing there are.", _ITEM),
        "take_items": ("Take things out.", _ITEM_AND_QUANTITY),
        "put_items": ("Put things in.", _ITEM_AND_QUANTITY),
        "order_items": ("Order more of a thing.", _ITEM_AND_QUANTITY),
    }

    @classmethod
    def new(cls, _dice: Dice) -> State:
        return {"items": {}, "orders": []}

    @classmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        state["items"].setdefault(_thing(dice), dice.integer(1, 40))

    def check_stock(self, item: str) -> Any:
        return {"item": item, "quantity": self._quantity(item)}

    def take_items(self, item: str, quantity: int) -> Any:
        there = self._quantity(item)
        self._check(quantity)
        if quantity > there:
            raise ToolFault(f"only {there} of {item} are there")
        self.state["items"][item] -= quantity
        return {"left": there - quantity}

    def put_items(self, item: str, quantity: int) -> Any:
        there = self._quantity(item)
        self._check(quantity)
        self.state["items"][item] += quantity
        return {"now": there + quantity}

    def order_items(self, item: str, quantity: int) -> Any:
        self._quantity(item)
        self._check(quantity)
        self.state["orders"].append([item, quantity])
        return {"ordered": quantity}

    def _quantity(self, item: str) -> int:
        if item not in self.state["items"]:
            raise ToolFault(f"{item} is not kept here")
        return int(self.state["items"][item])

    @staticmethod
    def _check(quantity: int) -> None:
        if quantity < 1:
            raise ToolFault("the quantity must be at least 1")


def _thing(dice: Dice) -> str:
    return f"{dice.choice(_COLOURS)} {dice.choice(THINGS)}"


@dataclass(frozen=True)
class _AboutItem(Errand):
    item: str
    there: int

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(_thing(dice), dice.integer(1, 40))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.item,)

    def prepare(self, state: State, _dice: Dice) -> None:
        state["items"][self.item] = self.there


@dataclass(frozen=True)
class HowMany(_AboutItem):
    wordings = Wordings(
        ("How many of the {item} do we have?", "Check the stock: {item}."),
        ("I would like to know the number of pieces there are of the {item}.",),
    )
    aim = "to know how many there are"

    def script(self) -> Script:
        (found,) = yield act("I look it up.", ("check_stock", {"item": self.item}), decisive=True)
        count = str(found["quantity"])
        return Report(f"There are {count}.", f"We have {count} of the {self.item}.", (count,))

    def facts(self) -> tuple[str, ...]:
        return (str(self.there),)


@dataclass(frozen=True)
class _WithQuantity(_AboutItem):
    quantity: int

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        there = dice.integer(3, 40)
        return cls(_thing(dice), there, dice.integer(1, there))

    @property
    def _arguments(self) -> dict[str, Any]:
        return {"item": self.item, "quantity": self.quantity}


@dataclass(frozen=True)
class Take(_WithQuantity):
    wordings = Wordings(
        ("Take out {quantity} of the {item}.", "I need {quantity} of the {item}."),
        ("Would you hand me {quantity} pieces of the {item}?",),
    )
    vague = vague(
        "Take out some of the {item}.",
        "I need a few of the {item}.",
        "How many do you want?",
        "I want {quantity}.",
    )
    aim = "to take things out"

    def script(self) -> Script:
        (result,) = yield act("Thing and number are known.", ("take_items", self._arguments), decisive=True)
        left = str(result["left"])
        content = f"Here are {self.quantity} of the {self.item}. There are {left} left."
        return Report(f"Now {left} are left.", content, (left,))

    def apply(self, state: State) -> None:
        state["items"][self.item] -= self.quantity

    def facts(self) -> tuple[str, ...]:
        return (str(self.there - self.quantity),)


@dataclass(frozen=True)
class Put(_WithQuantity):
    wordings = Wordings(
        ("Put {quantity} of the {item} in.", "{quantity} of the {item} have come in."),
        ("A delivery of {quantity} is here, of the {item}.",),
    )
    vague = vague(
        "Some of the {item} have come in.",
        "A delivery of the {item} is here.",
        "How many are there?",
        "{quantity} pieces.",
    )
    aim = "to put things in"

    def script(self) -> Script:
        (result,) = yield act("Thing and number are known.", ("put_items", self._arguments), decisive=True)
        now = str(result["now"])
        return Report(f"Now there are {now}.", f"Of the {self.item} we now have {now}.", (now,))

    def apply(self, state: State) -> None:
        state["items"][self.item] += self.quantity

    def facts(self) -> tuple[str, ...]:
        return (str(self.there + self.quantity),)


@dataclass(frozen=True)
class TakeOrOrder(_WithQuantity):
    """There are too few."""

    wordings = Wordings(
        (
            "Take out {quantity} of the {item}. If there are too few, order {quantity}.",
            "I need {quantity} of the {item}, or an order of {quantity} if we have not got them.",
        ),
        ("Get me {quantity} of the {item}; an order of {quantity} will do if they are not there.",),
    )
    aim = "to take things out or else to order them"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        there = dice.integer(1, 20)
        return cls(_thing(dice), there, there + dice.integer(1, 20))

    def script(self) -> Script:
        (refusal,) = yield act("I try to take them.", ("take_items", self._arguments), decisive=True)
        expect_refusal(refusal, f"only {self.there} ")
        yield act("There are too few. So I order them.", ("order_items", self._arguments), decisive=True)
        content = f"There were too few of the {self.item}, so {self.quantity} are on order."
        return Report("The order is placed.", content, (str(self.quantity),))

    def apply(self, state: State) -> None:
        state["orders"].append([self.item, self.quantity])

    def facts(self) -> tuple[str, ...]:
        return (str(self.quantity),)


@dataclass(frozen=True)
class Refill(_AboutItem):
    """Order as many as lack."""

    target: int

    wordings = Wordings(
        (
            "Order so many of the {item} that we have {target}.",
            "Bring the {item} up to {target} by an order.",
        ),
        ("There should be {target} of the {item}. Order what is lacking.",),
    )
    aim = "to have the stock filled up"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        there = dice.integer(1, 30)
        return cls(_thing(dice), there, there + dice.integer(2, 20))

    def script(self) -> Script:
        (found,) = yield act(
            "First I see how many there are.", ("check_stock", {"item": self.item}), decisive=True
        )
        lacking = self.target - found["quantity"]
        reasoning = f"{self.target} - {found['quantity']} = {lacking}, so {lacking} are lacking."
        yield act(reasoning, ("order_items", {"item": self.item, "quantity": lacking}), decisive=True)
        return Report(
            "The order is placed.", f"I have ordered {lacking} of the {self.item}.", (str(lacking),)
        )

    def apply(self, state: State) -> None:
        state["orders"].append([self.item, self.target - self.there])

    def facts(self) -> tuple[str, ...]:
        return (str(self.target - self.there),)


ERRANDS: tuple[type[Errand], ...] = (HowMany, Take, Put, TakeOrOrder, Refill)
