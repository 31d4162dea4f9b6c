"""What things at the desk are called. The order is part of what makes a seed reproducible."""

from evals.environments.desk.tools import CUSTOMER_STATUSES, DAYS, PEOPLE, TASK_STATUSES
from stages.data.synth.desk.errand import Desk, put
from stages.data.synth.dice import Dice
from stages.data.synth.words import THINGS, word_list

_TOPICS = word_list(
    """team budget garden music school paper water window market river kitchen summer winter coffee street bridge
    sugar pencil ticket theatre flower history science family village dance north south church ship horse light"""
)
_SORTS = word_list(
    "lunch dinner talk review visit lesson trip party walk game class show meeting tour race fair dance hour"
)
_VERBS = word_list("paint clean sell order check count wash mend pack draw print build cut buy sort weigh")
_COLOURS = word_list("Red Blue Green White Black Brown Grey Gold Silver Pink Old New")
_STATES = ("is lost", "is broken", "is here", "is ready", "is too old", "is for you")

TEXTS = (
    *("yes", "no", "thank you", "I am late", "see you soon", "please wait", "call me back", "come to me"),
    *(
        "I agree",
        "not today",
        "good work",
        "I need help",
        "wait for me",
        "all is well",
        "please come",
        "we are ready",
    ),
    *("it is too late", "take your time", "I am ill", "ask me again", "the door is open", "we can begin"),
    *("do not wait", "bring the book", "I will come", "it is on my table", "write to me", "you are right"),
)


def event(dice: Dice) -> str:
    return f"{dice.choice(_TOPICS)} {dice.choice(_SORTS)}"


def task(dice: Dice) -> str:
    return f"{dice.choice(_VERBS)} {dice.choice(THINGS)}"


def customer(dice: Dice) -> str:
    return f"{dice.choice(_COLOURS)} {dice.choice(THINGS).title()}"


def note(dice: Dice) -> tuple[str, str]:
    """What a message is about, and its text."""
    thing = dice.choice(THINGS)
    return thing, f"{thing} {dice.choice(_STATES)}"


def furnish(desk: Desk, avoid: tuple[str, ...], dice: Dice) -> None:
    """One or two rows more in each table, none of which contains a name to avoid."""
    for table in desk:
        for _ in range(dice.integer(1, 2)):
            values = _row(table, dice)
            while any(name.lower() in " ".join(values).lower() for name in avoid):
                values = _row(table, dice)
            put(desk, table, dice, *values)


def _row(table: str, dice: Dice) -> tuple[str, ...]:
    if table == "events":
        return event(dice), dice.choice(DAYS)
    person = dice.choice(PEOPLE)
    if table == "messages":
        return "from", person, note(dice)[1]
    if table == "tasks":
        return task(dice), person, dice.choice(TASK_STATUSES)
    return customer(dice), person, dice.choice(CUSTOMER_STATUSES)
