"""Plays a dialogue of a user and a fallible assistant, and keeps it if the service ends in the state that was wanted."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Problem, Sample, Style, Wordings, assistant, split_of, user
from stages.data.synth.tools.errand import Act, Ask, Call, Errand, Report
from stages.data.synth.tools.service import Service, State

MAX_LEVEL = 5
_NOTICES = 0.8  # how often the assistant sees from an error that it made a slip

_OUT_OF_SCOPE = tuple(
    """book a flight, order a pizza, repair my bicycle, translate a poem, call a taxi, play some music, water my plants,
    pay my taxes, walk my dog, paint my kitchen, bake a cake, cut my hair, sell my car, wash my windows, find a dentist,
    rent a flat, mend a shoe, feed my cat, print a photo, charge my phone, clean my carpet, fix my roof, tune my piano,
    write a song, knit a scarf, plan a wedding, sharpen my knives, iron a shirt, carry my bags, mow my lawn, draw a
    portrait, frame a picture, cook a meal, move my piano, build a shed, plant a hedge, train my dog, tell my fortune,
    forecast the weather, insure my house""".replace("\n    ", " ").split(", ")
)
_OUT_WORDINGS = Wordings(
    ("Can you {wish} for me?", "Please {wish}."), ("Would it be possible that you {wish}?",)
)
_LOST = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What a script raises that meets with results it does not expect: the assistant has lost the thread."""


@dataclass(frozen=True)
class Ending:
    """An assistant turn at which a row may end, and how it is graded there. `last`: it reports on the last errand."""

    length: int  # messages up to and with the turn
    grader: dict[str, Any]
    last: bool = False


@dataclass(frozen=True)
class DialogueProblem(Problem):
    """Errands at a service, one after another. `vague`: which of them the user words with something left out.

    outside: a last wish that no tool serves ("" for none).
    """

    service: type[Service]
    errands: tuple[Errand, ...]
    vague: tuple[bool, ...]
    outside: str

    @property
    def content(self) -> Any:
        return [[errand.content for errand in self.errands], self.vague, self.outside]

    @property
    def essence(self) -> Any:
        """What its first wish is about: `draw` takes care that all wishes of a dialogue are in one split. So whatever
        train says about a thing, a dialogue in dev or test is about others."""
        return self.errands[0].subject if self.errands else self.outside

    def write(self, dice: Dice, style: Style) -> Sample | None:
        state = self.service.new(dice)
        for errand in self.errands:
            errand.prepare(state, dice)
        for _ in range(dice.integer(1, 3)):
            self.service.furnish(state, dice)
        wanted = copy.deepcopy(state)
        for errand in self.errands:
            errand.apply(wanted)
        play = _Play(self.service(state), dice, style)
        try:
            found = [
                play.errand(errand, vague) for errand, vague in zip(self.errands, self.vague, strict=True)
            ]
            if self.outside:
                play.outside(self.outside)
        except _LOST:
            return None
        if state != wanted or found != [errand.facts() for errand in self.errands]:
            return None
        return self._sample(play, dice, style)

    def _sample(self, play: "_Play", dice: Dice, style: Style) -> Sample:
        final = play.endings[-1]
        ending = final if dice.chance(0.5) else dice.choice(play.endings[play.last_errand_from :])
        slips = [end for end in play.slip_ends if end < ending.length]
        metadata = {
            "errands": [type(errand).__name__ for errand in self.errands]
            + (["Outside"] if self.outside else []),
            "ends_in": "call" if ending.grader.get("calls") else "text",
            "slips": len(slips),
            "trace": style.trace,
        }
        messages = play.messages[: ending.length]
        return Sample(messages, ending.grader, metadata, self.service.schemas(), max(slips, default=0))


@dataclass
class _Play:
    service: Service
    dice: Dice
    style: Style
    messages: list[dict[str, Any]] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    last_errand_from: int = 0  # the endings from here on belong to the last errand
    slip_ends: list[int] = field(
        default_factory=list
    )  # after each slip and its results: how many messages there are
    _calls: int = 0

    def __post_init__(self) -> None:
        self.messages.append({"role": "system", "content": self.service.prompt})

    def errand(self, errand: Errand, vague: bool) -> tuple[str, ...]:
        """Play one errand; the facts that the assistant reported."""
        self.last_errand_from = len(self.endings)
        prefix = "" if self.style.trace == "short" else f"The user wants {errand.aim}. "
        if vague and errand.vague:
            _, wording = errand.vague.wordings.pick(self.dice, self.style.held_out)
            self.messages.append(user(wording.format(**errand.parameters)))
            reply = errand.vague.reply.format(**errand.parameters)
            self._ask(Ask(f"{prefix}Something is missing, so I ask.", errand.vague.question, reply))
            prefix = ""
        else:
            _, wording = errand.wordings.pick(self.dice, self.style.held_out)
            self.messages.append(user(wording.format(**errand.parameters)))
        script = errand.script()
        step = next(script)
        while True:
            results: list[Any] = []
            if isinstance(step, Ask):
                self._ask(step)
            else:
                results = self._act(step, prefix)
            prefix = ""
            try:
                step = script.send(results)
            except StopIteration as stop:
                return self._report(stop.value)

    def outside(self, wish: str) -> None:
        """A wish that the assistant has to turn down."""
        _, wording = _OUT_WORDINGS.pick(self.dice, self.style.held_out)
        self.last_errand_from = len(self.endings)
        self.messages.append(user(wording.format(wish=wish)))
        self.messages.append(
            assistant(f"I am sorry, I cannot {wish} here.", "None of my tools can do that, so I say so.")
        )
        self._end({"name": "tool_calls", "calls": []})

    def _ask(self, ask: Ask) -> None:
        self.messages.append(assistant(ask.question, ask.reasoning))
        self._end({"name": "tool_calls", "calls": []})
        self.messages.append(user(ask.reply))

    def _report(self, report: Report) -> tuple[str, ...]:
        reasoning = report.reasoning
        if self.style.trace == "checked" and report.facts:
            reasoning += f" I have to name {', '.join(report.facts)}."
        self.messages.append(assistant(report.content, reasoning))
        kwargs = {"keywords": list(report.facts)}
        grader = {
            "name": "instructions",
            "instruction_id_list": ["keywords:existence"],
            "kwargs": [kwargs],
            "strict": True,
        }
        self._end(grader if report.facts else {"name": "tool_calls", "calls": []})
        return report.facts

    def _end(self, grader: dict[str, Any]) -> None:
        self.endings.append(Ending(len(self.messages), grader))

    def _act(self, act: Act, prefix: str) -> list[Any]:
        """Make the calls of a turn, or something like them; what the assistant takes for their results."""
        calls, reasoning = list(act.calls), prefix + act.reasoning
        if not self.dice.chance(self.style.error_rate):
            results = self._call(calls, reasoning)
            if act.decisive:
                wanted = [{"name": name, "arguments": arguments} for name, arguments in calls]
                self.endings.append(
                    Ending(self._turn_end, {"name": "tool_calls", "calls": wanted, "ordered": False})
                )
            return results
        place = self.dice.below(len(calls))
        slip = _slip(calls[place], self.service.state, self.dice)
        if slip is None:  # nothing is called, and yet taken for done
            self.slip_ends.append(len(self.messages))
            return [{} for _ in calls]
        results = self._call([*calls[:place], *slip, *calls[place + 1 :]], reasoning)
        self.slip_ends.append(len(self.messages))
        if len(slip) > 1:
            del results[place + 1 : place + len(slip)]
        failed = isinstance(results[place], dict) and "error" in results[place]
        if failed and slip[0] != calls[place] and self.dice.chance(_NOTICES):
            (results[place],) = self._call(
                [calls[place]], "That call failed, and the slip was mine. I correct it."
            )
        return results

    def _call(self, calls: list[Call], reasoning: str) -> list[Any]:
        message, results, answers = assistant("", reasoning), [], []
        message["tool_calls"] = []
        for name, arguments in calls:
            self._calls += 1
            identifier = f"call_{self._calls}"
            function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
            message["tool_calls"].append({"id": identifier, "type": "function", "function": function})
            results.append(self.service.call(name, arguments))
            content = json.dumps(results[-1], ensure_ascii=False)
            answers.append({"role": "tool", "tool_call_id": identifier, "content": content})
        self.messages.append(message)
        self._turn_end = len(self.messages)
        self.messages += answers
        return results


def _slip(call: Call, state: State, dice: Dice) -> list[Call] | None:
    """What a fallible assistant makes of a call: the calls made in its place, or None if it is left out."""
    name, arguments = call
    match dice.choice(("another value", "an argument missing", "a wrong name", "twice", "left out")):
        case "another value":
            key = dice.choice(list(arguments))
            return [(name, {**arguments, key: _another(arguments[key], state, dice)})]
        case "an argument missing":
            missing = dice.choice(list(arguments))
            return [(name, {key: value for key, value in arguments.items() if key != missing})]
        case "a wrong name":
            return [(name.replace("_", "_the_", 1), arguments)]
        case "twice":
            return [call, call]
    return None


def _another(value: Any, state: State, dice: Dice) -> Any:
    """Another number, another id of the same sort, or a text that lacks its end."""
    if isinstance(value, int):
        return value + 1
    if value[-1:].isdigit():
        tables = [table for table in state.values() if isinstance(table, dict)]
        others = [key for table in tables for key in table if key[:1] == value[:1] and key != value]
        return dice.choice(others or [value + "0"])
    return value[: len(value) // 2].strip()


def draw(
    family: str, service: type[Service], errands: tuple[type[Errand], ...], level: int, dice: Dice
) -> DialogueProblem:
    """A problem: one errand at levels 1 and 2, one more a level from 3 on. From level 2 on the user may leave something
    out; at any level the last wish may be one that no tool serves. All wishes are of one split."""
    outside = dice.choice(_OUT_OF_SCOPE) if dice.chance(0.1) else ""
    if outside and level == 1:
        return DialogueProblem(service, (), (), outside)
    chosen = [dice.choice(errands).draw(dice)]
    split = split_of(family, chosen[0].subject)
    while len(chosen) < level - 1:
        errand = dice.choice(errands).draw(dice)
        taken = {name for other in chosen for name in other.names}
        if not taken & set(errand.names) and split_of(family, errand.subject) is split:
            chosen.append(errand)
    if outside and split_of(family, outside) is not split:
        outside = ""
    vague = tuple(level > 1 and errand.vague is not None and dice.chance(0.4) for errand in chosen)
    return DialogueProblem(service, tuple(chosen), vague, outside)
