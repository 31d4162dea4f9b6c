"""A library desk: books, members, loans and reservations."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.errand import Errand, Report, Script, act, expect_refusal, number_in, vague
from stages.data.synth.tools.service import Service, State, ToolFault, text
from stages.data.synth.words import PEOPLE, SURNAMES, word_list

_ADJECTIVES = word_list(
    """Silent Broken Hidden Golden Last Northern Crooked Burning Frozen Distant Hollow Painted Wild Lonely
    Borrowed"""
)
_NOUNS = word_list(
    """Harbour Clock Garden Mountain Letter Orchard Lantern Bridge Winter River Violin Island Mirror
    Sparrow Cellar"""
)
_LOAN_DAYS = 21


class Library(Service):
    prompt: ClassVar = (
        "You work at the desk of a small library. Use the tools, and ask when you need to know more."
    )
    tools: ClassVar = {
        "find_book": ("Find a book by its title.", {"title": text("Title of the book")}),
        "find_member": ("Find a member by name.", {"name": text("Full name")}),
        "lend_book": (
            "Lend a book to a member.",
            {"book_id": text("Id of the book"), "member_id": text("Id of the member")},
        ),
        "return_book": (
            "Take back a book from a member.",
            {"book_id": text("Id of the book"), "member_id": text("Id of the member")},
        ),
        "reserve_book": (
            "Reserve a book for a member.",
            {"book_id": text("Id of the book"), "member_id": text("Id of the member")},
        ),
    }

    @classmethod
    def new(cls, dice: Dice) -> State:
        """An empty library on some day."""
        today = date(2030, 1, 1) + timedelta(days=dice.below(365))
        return {"today": today.isoformat(), "books": {}, "members": {}, "loans": [], "reservations": []}

    @classmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        """A book and a member more, of whom no errand knows."""
        add_book(state, _title(dice), dice.below(4), dice)
        add_member(state, _member(dice), dice)

    def find_book(self, title: str) -> Any:
        for identifier, book in self.state["books"].items():
            if book["title"].lower() == title.lower():
                return {"book_id": identifier, **book}
        raise ToolFault(f"there is no book {title}")

    def find_member(self, name: str) -> Any:
        for identifier, member in self.state["members"].items():
            if member.lower() == name.lower():
                return {"member_id": identifier, "name": member}
        raise ToolFault(f"there is no member {name}")

    def lend_book(self, book_id: str, member_id: str) -> Any:
        book = self._checked(book_id, member_id)
        if not book["copies"]:
            raise ToolFault(f"no copy of {book_id} is in")
        book["copies"] -= 1
        due = due_date(self.state)
        self.state["loans"].append([book_id, member_id, due])
        return {"due": due}

    def return_book(self, book_id: str, member_id: str) -> Any:
        book = self._checked(book_id, member_id)
        loan = next((loan for loan in self.state["loans"] if loan[:2] == [book_id, member_id]), None)
        if loan is None:
            raise ToolFault(f"{member_id} has not borrowed {book_id}")
        self.state["loans"].remove(loan)
        book["copies"] += 1
        return {"copies": book["copies"]}

    def reserve_book(self, book_id: str, member_id: str) -> Any:
        self._checked(book_id, member_id)
        self.state["reservations"].append([book_id, member_id])
        place = sum(book == book_id for book, _ in self.state["reservations"])
        return {"place_in_line": place}

    def _checked(self, book_id: str, member_id: str) -> Any:
        if book_id not in self.state["books"]:
            raise ToolFault(f"there is no book with the id {book_id}")
        if member_id not in self.state["members"]:
            raise ToolFault(f"there is no member with the id {member_id}")
        return self.state["books"][book_id]


def due_date(state: State) -> str:
    return (date.fromisoformat(state["today"]) + timedelta(days=_LOAN_DAYS)).isoformat()


def add_book(state: State, title: str, copies: int, dice: Dice) -> str:
    """A book in the state, unless its title is there already; its id."""
    for identifier, book in state["books"].items():
        if book["title"] == title:
            return str(identifier)
    identifier = number_in(state, "books", "B", dice)
    state["books"][identifier] = {"title": title, "copies": copies}
    return identifier


def add_member(state: State, name: str, dice: Dice) -> str:
    for identifier, member in state["members"].items():
        if member == name:
            return str(identifier)
    identifier = number_in(state, "members", "M", dice)
    state["members"][identifier] = name
    return identifier


def _title(dice: Dice) -> str:
    return f"The {dice.choice(_ADJECTIVES)} {dice.choice(_NOUNS)}"


def _member(dice: Dice) -> str:
    return f"{dice.choice(PEOPLE)} {dice.choice(SURNAMES)}"


def _ids(state: State, title: str, member: str) -> tuple[str, str]:
    book = next(key for key, value in state["books"].items() if value["title"] == title)
    return book, next(key for key, value in state["members"].items() if value == member)


@dataclass(frozen=True)
class Available(Errand):
    """How many copies are in?"""

    title: str
    copies: int

    wordings = Wordings(
        ("How many copies of {title} are in?", "Can you look up how many copies of {title} you have in?"),
        ("I am after {title}. How many copies are on the shelf?",),
    )
    aim = "to know how many copies are in"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(_title(dice), dice.integer(1, 9))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.title,)

    def prepare(self, state: State, dice: Dice) -> None:
        add_book(state, self.title, self.copies, dice)

    def script(self) -> Script:
        (book,) = yield act("I look up the book.", ("find_book", {"title": self.title}), decisive=True)
        copies = book["copies"]
        return Report(
            f"The entry says {copies}.", f"{self.title}: {copies} in at the moment.", (str(copies),)
        )

    def facts(self) -> tuple[str, ...]:
        return (str(self.copies),)


@dataclass(frozen=True)
class _AboutLoan(Errand):
    title: str
    member: str

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(_title(dice), _member(dice))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.title, self.member)

    def prepare(self, state: State, dice: Dice) -> None:
        add_book(state, self.title, 2, dice)
        add_member(state, self.member, dice)

    def facts(self) -> tuple[str, ...]:
        return (self.title, self.member)

    def _look_up(self) -> Any:
        """The ids of book and member, found at once."""
        book, member = yield act(
            "I need the ids of the book and the member. Neither look-up needs the other, so I do both at once.",
            ("find_book", {"title": self.title}),
            ("find_member", {"name": self.member}),
        )
        return {"book_id": book["book_id"], "member_id": member["member_id"]}

    @staticmethod
    def _found(ids: dict[str, str]) -> str:
        return f"The book is {ids['book_id']} and the member is {ids['member_id']}."


@dataclass(frozen=True)
class Lend(_AboutLoan):
    wordings = Wordings(
        ("Please lend {title} to {member}.", "{member} wants to borrow {title}."),
        ("Could you put {title} on the account of {member}?",),
    )
    vague = vague(
        "Please lend {title} to somebody here.",
        "I would like to lend out {title}.",
        "Who is going to borrow it?",
        "{member}.",
    )
    aim = "to lend a book"

    def script(self) -> Script:
        ids = yield from self._look_up()
        (loan,) = yield act(f"{self._found(ids)} Now I can lend it.", ("lend_book", ids), decisive=True)
        content = f"{self.title} is lent to {self.member} until {loan['due']}."
        return Report(f"The loan ends on {loan['due']}.", content, (self.title, self.member))

    def apply(self, state: State) -> None:
        book, member = _ids(state, self.title, self.member)
        state["books"][book]["copies"] -= 1
        state["loans"].append([book, member, due_date(state)])


@dataclass(frozen=True)
class Return(_AboutLoan):
    wordings = Wordings(
        ("{member} brings back {title}.", "Please take back {title} from {member}."),
        ("Here is {title}. It was on loan to {member}.",),
    )
    vague = vague(
        "I have {title} here, which was on loan.",
        "{title} is back.",
        "Who had borrowed it?",
        "It was {member}.",
    )
    aim = "to return a book"

    def prepare(self, state: State, dice: Dice) -> None:
        super().prepare(state, dice)
        book, member = _ids(state, self.title, self.member)
        state["loans"].append([book, member, due_date(state)])

    def script(self) -> Script:
        ids = yield from self._look_up()
        yield act(f"{self._found(ids)} Now I can take it back.", ("return_book", ids), decisive=True)
        content = f"Thank you. {self.title} is back from {self.member}."
        return Report("The book is back.", content, (self.title, self.member))

    def apply(self, state: State) -> None:
        book, member = _ids(state, self.title, self.member)
        state["loans"].remove([book, member, due_date(state)])
        state["books"][book]["copies"] += 1


@dataclass(frozen=True)
class LendOrReserve(_AboutLoan):
    wordings = Wordings(
        (
            "{member} would like {title}. If no copy is in, reserve it.",
            "Lend {title} to {member}, or reserve it if all copies are out.",
        ),
        ("{title} for {member}, please. Should it be out, a reservation will do.",),
    )
    aim = "to lend a book or else to reserve it"

    def prepare(self, state: State, dice: Dice) -> None:
        add_book(state, self.title, 0, dice)
        add_member(state, self.member, dice)

    def script(self) -> Script:
        ids = yield from self._look_up()
        (refusal,) = yield act(f"{self._found(ids)} I try to lend it.", ("lend_book", ids), decisive=True)
        expect_refusal(refusal, "no copy")
        (place,) = yield act(
            "That was refused, since no copy is in. The user wants a reservation then.",
            ("reserve_book", ids),
            decisive=True,
        )
        content = f"No copy is in. {self.title} is reserved for {self.member}, number {place['place_in_line']} in line."
        return Report("The reservation is made.", content, (self.title, self.member))

    def apply(self, state: State) -> None:
        state["reservations"].append(list(_ids(state, self.title, self.member)))


ERRANDS: tuple[type[Errand], ...] = (Available, Lend, Return, LendOrReserve)
