"""What things at the desk are called. The order is part of what makes a seed reproducible."""

from evals.environments.desk.tools import CUSTOMER_STATUSES, DAYS, PEOPLE, TASK_STATUSES
from stages.data.synth.desk.errand import Desk, put
from stages.data.synth.dice import Dice
from stages.data.synth.words import word_list

EVENTS = word_list(
    "talk visit walk class show fair play match tea reading story test party lunch dinner lesson game dance meeting tour"
)
TASKS = word_list(
    "paper door house garden wall table boat road window field gate chair floor bed fire glass mill bread lamp shop"
)
CUSTOMERS = word_list(
    "King Brown Young Hill Moore Price Wells Ford Rose Smith Jones Clark Cook Park Bird Snow Grant Long White West"
)
THINGS = word_list(
    "key letter book horse coat ring ball box cup bag dog knife cow ship clock map watch coin ticket bell"
)
_STATES = ("is lost", "is broken", "is here", "is ready")

TEXTS = (
    *("yes", "no", "thank you", "I am late", "see you soon", "please wait", "call me back", "come to me"),
    *(
        "I agree",
        "not today",
        "good work",
        "I need help",
        "all is well",
        "please come",
        "we are ready",
        "I am ill",
    ),
    *("take your time", "you are right", "I will come", "write to me"),
)


def note(thing: str, dice: Dice) -> str:
    """The text of a message about something."""
    return f"{thing} {dice.choice(_STATES)}"


def furnish(desk: Desk, avoid: tuple[str, ...], dice: Dice) -> None:
    """One row more in each table, none of which contains a name to avoid."""
    for table in desk:
        values = _row(table, dice)
        while any(name.lower() in " ".join(values).lower() for name in avoid):
            values = _row(table, dice)
        put(desk, table, dice, *values)


def _row(table: str, dice: Dice) -> tuple[str, ...]:
    if table == "events":
        return dice.choice(EVENTS), dice.choice(DAYS)
    person = dice.choice(PEOPLE)
    if table == "messages":
        return "from", person, note(dice.choice(THINGS), dice)
    if table == "tasks":
        return dice.choice(TASKS), person, dice.choice(TASK_STATUSES)
    return dice.choice(CUSTOMERS), person, dice.choice(CUSTOMER_STATUSES)
