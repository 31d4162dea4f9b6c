"""A ferry office: departures, seats and bookings."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.errand import Errand, Report, Script, act, expect_refusal, number_in, vague
from stages.data.synth.tools.service import Service, State, ToolFault, text
from stages.data.synth.words import PEOPLE, SURNAMES, word_list

_PORTS = word_list(
    """Alder Birch Cedar Dover Elm Fern Gorse Hazel Iris Juniper Kale Larch Maple Nettle Oak Poplar"""
)


class Timetable(Service):
    prompt: ClassVar = "You sell tickets for ferries. Use the tools, and ask when you need to know more."
    tools: ClassVar = {
        "find_trips": (
            "List today's trips between two ports in order of time.",
            {"origin": text("Port of departure"), "destination": text("Port of arrival")},
        ),
        "book_seat": (
            "Book a seat on a trip.",
            {"trip_id": text("Id of the trip"), "name": text("Full name of the traveller")},
        ),
        "cancel_booking": ("Cancel a booking.", {"booking_id": text("Id of the booking")}),
    }

    @classmethod
    def new(cls, dice: Dice) -> State:
        return {"trips": {}, "bookings": {}, "next": dice.integer(100, 900)}

    @classmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        """A trip from a port that no errand names."""
        named = {trip["origin"] for trip in state["trips"].values()}
        free = [port for port in _PORTS if port not in named]
        add_trip(state, (dice.choice(free), dice.choice(_PORTS)), _clock(dice.below(72)), dice.below(5), dice)

    def find_trips(self, origin: str, destination: str) -> Any:
        found = [
            {"trip_id": key, "leaves": trip["leaves"]}
            for key, trip in self.state["trips"].items()
            if (trip["origin"], trip["destination"]) == (origin, destination)
        ]
        if not found:
            raise ToolFault(f"there is no trip from {origin} to {destination}")
        return sorted(found, key=lambda trip: str(trip["leaves"]))

    def book_seat(self, trip_id: str, name: str) -> Any:
        trip = self.state["trips"].get(trip_id)
        if trip is None:
            raise ToolFault(f"there is no trip {trip_id}")
        if " " not in name:
            raise ToolFault("the full name is needed")
        if not trip["seats"]:
            raise ToolFault(f"{trip_id} is full")
        trip["seats"] -= 1
        identifier = f"K{self.state['next']}"
        self.state["next"] += 1
        self.state["bookings"][identifier] = {"trip_id": trip_id, "name": name}
        return {"booking_id": identifier}

    def cancel_booking(self, booking_id: str) -> Any:
        if booking_id not in self.state["bookings"]:
            raise ToolFault(f"there is no booking {booking_id}")
        booking = self.state["bookings"].pop(booking_id)
        self.state["trips"][booking["trip_id"]]["seats"] += 1
        return {"cancelled": booking_id}


def _clock(step: int) -> str:
    """A time of day: steps of ten minutes from 7:00 on."""
    return f"{7 + step // 6:02}:{step % 6}0"


def add_trip(state: State, ports: tuple[str, str], leaves: str, seats: int, dice: Dice) -> str:
    identifier = number_in(state, "trips", "F", dice)
    state["trips"][identifier] = {
        "origin": ports[0],
        "destination": ports[1],
        "leaves": leaves,
        "seats": seats,
    }
    return identifier


def _book(state: State, origin: str, leaves: str, name: str) -> None:
    trip = next(
        key for key, trip in state["trips"].items() if (trip["origin"], trip["leaves"]) == (origin, leaves)
    )
    state["trips"][trip]["seats"] -= 1
    state["bookings"][f"K{state['next']}"] = {"trip_id": trip, "name": name}
    state["next"] += 1


@dataclass(frozen=True)
class _Route(Errand):
    """Three trips a day. No two errands of a dialogue share a port of departure."""

    origin: str
    destination: str
    times: tuple[str, ...]

    @classmethod
    def _route(cls, dice: Dice) -> tuple[str, str, tuple[str, ...]]:
        origin, destination = dice.sample(_PORTS, 2)
        return origin, destination, tuple(_clock(step) for step in sorted(dice.sample(range(72), 3)))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.origin,)

    @property
    def subject(self) -> str:
        return f"{self.origin} {self.destination}"

    def prepare(self, state: State, dice: Dice) -> None:
        for leaves in dice.shuffled(self.times):
            add_trip(state, (self.origin, self.destination), leaves, 3, dice)

    def _trips(self) -> Any:
        ports = {"origin": self.origin, "destination": self.destination}
        (trips,) = yield act(
            "I look at the trips between the two ports.", ("find_trips", ports), decisive=True
        )
        return trips


@dataclass(frozen=True)
class LastTrip(_Route):
    wordings = Wordings(
        (
            "When does the last ferry from {origin} to {destination} leave?",
            "What is the latest trip from {origin} to {destination}?",
        ),
        ("I have to get to {destination} from {origin} as late as possible. At what time is that?",),
    )
    aim = "to know a time"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(*cls._route(dice))

    def script(self) -> Script:
        trips = yield from self._trips()
        leaves = trips[-1]["leaves"]
        return Report(
            f"The last of {len(trips)} is at {leaves}.", f"The last ferry leaves at {leaves}.", (leaves,)
        )

    def facts(self) -> tuple[str, ...]:
        return (self.times[-1],)


@dataclass(frozen=True)
class _WithName(_Route):
    name: str

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(*cls._route(dice), f"{dice.choice(PEOPLE)} {dice.choice(SURNAMES)}")


@dataclass(frozen=True)
class BookFirst(_WithName):
    wordings = Wordings(
        (
            "Book {name} on the first ferry from {origin} to {destination}.",
            "A seat for {name}, please, from {origin} to {destination} as early as possible.",
        ),
        ("{name} wants to go from {origin} to {destination} with the earliest ferry. Please book it.",),
    )
    vague = vague(
        "I need a seat on the first ferry from {origin} to {destination}.",
        "Please book the earliest ferry from {origin} to {destination}.",
        "What is the full name of the traveller?",
        "{name}.",
    )
    aim = "a seat on the first ferry"

    def script(self) -> Script:
        trips = yield from self._trips()
        first = trips[0]
        arguments = {"trip_id": first["trip_id"], "name": self.name}
        yield act(
            f"The first is {first['trip_id']} at {first['leaves']}.", ("book_seat", arguments), decisive=True
        )
        content = f"{self.name} has a seat on the ferry at {first['leaves']}."
        return Report("The seat is booked.", content, (self.name, first["leaves"]))

    def apply(self, state: State) -> None:
        _book(state, self.origin, self.times[0], self.name)

    def facts(self) -> tuple[str, ...]:
        return (self.name, self.times[0])


@dataclass(frozen=True)
class BookFree(_WithName):
    """The first ferry is full, the second is not."""

    wordings = Wordings(
        (
            "Book {name} on the first ferry from {origin} to {destination} that has a seat left.",
            "{name} goes from {origin} to {destination}. Take the earliest ferry that is not full.",
        ),
        ("A seat for {name} from {origin} to {destination}, on whichever ferry first has room.",),
    )
    aim = "a seat on the first ferry with room"

    def prepare(self, state: State, dice: Dice) -> None:
        for leaves in self.times:
            add_trip(
                state, (self.origin, self.destination), leaves, 0 if leaves == self.times[0] else 2, dice
            )

    def script(self) -> Script:
        trips = yield from self._trips()
        first, second = trips[0], trips[1]
        (refusal,) = yield act(
            f"The first is {first['trip_id']} at {first['leaves']}.",
            ("book_seat", {"trip_id": first["trip_id"], "name": self.name}),
            decisive=True,
        )
        expect_refusal(refusal, "full")
        yield act(
            f"It is full. The next one is {second['trip_id']} at {second['leaves']}.",
            ("book_seat", {"trip_id": second["trip_id"], "name": self.name}),
            decisive=True,
        )
        content = f"The ferry at {first['leaves']} is full. {self.name} has a seat at {second['leaves']}."
        return Report("The seat is booked.", content, (self.name, second["leaves"]))

    def apply(self, state: State) -> None:
        _book(state, self.origin, self.times[1], self.name)

    def facts(self) -> tuple[str, ...]:
        return (self.name, self.times[1])


@dataclass(frozen=True)
class Cancel(_WithName):
    booking: str

    wordings = Wordings(
        ("Cancel the booking {booking} of {name}.", "{name} cannot travel. Please cancel {booking}."),
        ("The booking {booking} that {name} made is no longer needed.",),
    )
    vague = vague(
        "{name} cannot travel. Please cancel the booking.",
        "The booking of {name} is no longer needed.",
        "What is the id of the booking?",
        "It is {booking}.",
    )
    aim = "to cancel a booking"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        name = f"{dice.choice(PEOPLE)} {dice.choice(SURNAMES)}"
        return cls(*cls._route(dice), name, f"K{dice.integer(10, 99)}")

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.origin, self.booking)

    @property
    def subject(self) -> str:
        return self.name

    def prepare(self, state: State, dice: Dice) -> None:
        super().prepare(state, dice)
        state["bookings"][self.booking] = {"trip_id": self._trip(state), "name": self.name}

    def _trip(self, state: State) -> str:
        keys = [key for key, trip in state["trips"].items() if trip["origin"] == self.origin]
        return next(key for key in keys if state["trips"][key]["leaves"] == self.times[0])

    def script(self) -> Script:
        yield act("The id is known.", ("cancel_booking", {"booking_id": self.booking}), decisive=True)
        return Report("It is cancelled.", f"The booking {self.booking} is cancelled.", (self.booking,))

    def apply(self, state: State) -> None:
        del state["bookings"][self.booking]
        state["trips"][self._trip(state)]["seats"] += 1

    def facts(self) -> tuple[str, ...]:
        return (self.booking,)


ERRANDS: tuple[type[Errand], ...] = (LastTrip, BookFirst, BookFree, Cancel)
