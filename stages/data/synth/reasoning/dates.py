"""The calendar."""

import datetime
from dataclasses import dataclass
from typing import ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import Phrase, ReasoningProblem, minus
from stages.data.synth.words import word_list

_MONTHS = word_list(
    """January February March April May June July August September October November December"""
)


@dataclass(frozen=True)
class Dates(ReasoningProblem):
    """Days in the calendar. Levels 1 and 2: which day of the month comes some days later. From level 3 on also: how
    many days lie between two dates, from level 4 on in different years."""

    date: tuple[int, int, int]  # year, month, day
    days: int
    between: bool

    wordings = Wordings(
        ("{question}", "Please tell me: {question}", "Use the calendar. {question}"),
        ("I need to plan ahead. {question}", "Counting days: {question}"),
    )

    _LATER: ClassVar = Wordings(
        (
            "Which day of the month is it {days} days after {first}?",
            "{first} is today. On which day of the month do we arrive {days} days later?",
        ),
        ("Something begins on {first} and ends {days} days later. On which day of the month?",),
    )
    _BETWEEN: ClassVar = Wordings(
        (
            "How many days are there from {first} to {last}?",
            "From {first} until {last}, how many days go by?",
        ),
        ("Somebody leaves on {first} and returns on {last}. How many days later is that?",),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        year, month = dice.integer(1990, 2049), dice.integer(1, 12)
        date = (year, month, dice.integer(1, _length(year, month)))
        between = level >= 3 and dice.chance(0.5)
        rest = (datetime.date(year, 12, 31) - datetime.date(*date)).days
        if level < 4:  # stay inside the year
            month = dice.integer(1, 11)
            date = (year, month, dice.integer(1, _length(year, month)))
            rest = (datetime.date(year, 12, 31) - datetime.date(*date)).days
            return cls(date, dice.integer(10, min(rest, (40, 120, 250)[level - 1])), between)
        return cls(date, rest + dice.integer(1, 150 * (level - 3)), between)

    @property
    def _last(self) -> datetime.date:
        return datetime.date(*self.date) + datetime.timedelta(days=self.days)

    @property
    def answer(self) -> int:
        return self.days if self.between else self._last.day

    def words(self) -> dict[str, str]:
        return {}

    def phrases(self) -> dict[str, list[Phrase]]:
        last = self._last
        dates = {"first": _spelled(*self.date), "last": _spelled(last.year, last.month, last.day)}
        return {"question": [(self._BETWEEN if self.between else self._LATER, {**dates, "days": self.days})]}

    def steps(self, long: bool) -> list[str]:
        return self._count_up(long) if self.between else self._walk(long)

    def _walk(self, long: bool) -> list[str]:
        """Month by month."""
        (year, month, day), left, lines = self.date, self.days, list[str]()
        while day + left > (length := _length(year, month)):
            if long:
                lines.append(f"{_MONTHS[month - 1]} {year} has {length} days")
            if day:
                rest = length - day
                claims = f"{length} - {day} = {rest}; {left} - {rest} = {left - rest}"
                lines.append(f"{_MONTHS[month - 1]}: {claims}")
            else:
                lines.append(f"{_MONTHS[month - 1]}: {left} - {length} = {left - length}")
            left -= length - day
            day = 0
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return [*lines, f"{_MONTHS[month - 1]}: {day} + {left} = {day + left}"]

    def _count_up(self, long: bool) -> list[str]:
        """Days of the year of both dates, and whole years between."""
        last = self._last
        lines = []
        first_day, first_line = _day_of_year(*self.date)
        last_day, last_line = _day_of_year(last.year, last.month, last.day)
        lines += [
            f"{_spelled(*self.date)}: {first_line}",
            f"{_spelled(last.year, last.month, last.day)}: {last_line}",
        ]
        total = last_day
        for year in range(self.date[0], last.year):
            length = 366 if _length(year, 2) == 29 else 365
            if long:
                lines.append(f"{year} has {length} days")
            lines.append(f"{total} + {length} = {total + length}")
            total += length
        return [*lines, *minus(total, first_day, long)]

    def checks(self) -> list[str]:
        if not self.between:
            return self._count_back()
        total, lines = 0, []
        for amount in self._stretches():
            if total:
                lines.append(f"{total} + {amount} = {total + amount}")
            total += amount
        return lines or [f"the days are {total}"]

    def _count_back(self) -> list[str]:
        amounts = self._stretches()
        parts = " + ".join(map(str, amounts))
        return [f"the days by months: {parts} = {self.days}"]

    def _stretches(self) -> list[int]:
        """The days of the span that lie in each month."""
        last, (year, month, day), amounts = self._last, self.date, list[int]()
        while (year, month) != (last.year, last.month):
            amounts.append(_length(year, month) - day)
            day = 0
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return [*amounts, last.day - day]


def _length(year: int, month: int) -> int:
    """The days of a month."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _day_of_year(year: int, month: int, day: int) -> tuple[int, str]:
    """The number of a day in its year, and the claim that says so."""
    parts = [*(_length(year, earlier) for earlier in range(1, month)), day]
    total = sum(parts)
    return total, f"{' + '.join(map(str, parts))} = {total}" if len(parts) > 1 else f"{total} = {total}"


def _spelled(year: int, month: int, day: int) -> str:
    return f"{day} {_MONTHS[month - 1]} {year}"
