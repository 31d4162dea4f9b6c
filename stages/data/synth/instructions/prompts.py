"""Instruction problems: a task, a topic and demands that go together."""

from dataclasses import dataclass
from typing import Any

from evals.graders.instructions.language import detect_language
from stages.data.synth.dice import Dice
from stages.data.synth.instructions.compose import compose
from stages.data.synth.instructions.demand import Kwargs, compatible
from stages.data.synth.instructions.demands import DEMANDS
from stages.data.synth.instructions.languages import LANGUAGES, SENTENCES
from stages.data.synth.instructions.topics import TOPICS
from stages.data.synth.problem import Problem, Sample, Style, Wordings, assistant, user
from stages.data.synth.reasoning.base import listing

MAX_LEVEL = 6


@dataclass(frozen=True)
class Task:
    """What to write. `opening` may be the first sentence of an answer."""

    wordings: Wordings
    opening: str = ""


def _question(*trained: str, held_out: str) -> Task:
    return Task(Wordings(trained, (held_out,)))


TASKS: dict[str, Task] = {
    "describe": Task(
        Wordings(
            ("Describe {topic}.", "Write about {topic}.", "Tell me about {topic}."),
            ("What can you say about {topic}?",),
        ),
        "Here are a few words about {topic}.",
    ),
    "explain": Task(
        Wordings(
            ("Explain {topic} to a child.", "A child asks about {topic}. What do you say?"),
            ("Make {topic} clear to a child.",),
        ),
        "Let me tell you something about {topic}.",
    ),
    "letter": Task(
        Wordings(
            ("Write a letter to a friend about {topic}.", "Write to a friend about {topic}."),
            ("A friend wants a letter on {topic}.",),
        ),
        "This letter is about {topic}.",
    ),
    "advert": Task(
        Wordings(
            ("Write an advert about {topic}.", "Make up an advertisement about {topic}."),
            ("Draft a poster about {topic}.",),
        ),
        "Come and find out about {topic}.",
    ),
    "advice": Task(
        Wordings(
            ("Give me advice about {topic}.", "What advice do you have about {topic}?"),
            ("Help a beginner with {topic}.",),
        ),
        "My first advice about {topic} is to begin slowly.",
    ),
    "speech": Task(
        Wordings(
            ("Write a short speech about {topic}.", "Give a speech about {topic}."),
            ("What would you tell an audience about {topic}?",),
        ),
        "Tonight we speak about {topic}.",
    ),
    "reasons": Task(
        Wordings(
            ("Why do we need {topic}?", "Say what makes {topic} important."),
            ("What would we lose without {topic}?",),
        ),
        "There are good reasons to care about {topic}.",
    ),
    "notes": Task(
        Wordings(
            ("Take notes on {topic}.", "Write notes about {topic} for a lesson."),
            ("Prepare some notes on {topic}.",),
        ),
        "These are my notes about {topic}.",
    ),
    "story": Task(
        Wordings(
            ("Tell a story about {topic}.", "Make up a story about {topic}."),
            ("Let me hear a tale about {topic}.",),
        ),
        "This is a short story about {topic}.",
    ),
    "diary": Task(
        Wordings(
            ("Write a diary entry about {topic}.", "Write in your diary about {topic}."),
            ("Fill a page of a diary with {topic}.",),
        ),
        "Today I thought about {topic}.",
    ),
    "review": Task(
        Wordings(
            ("Review a book about {topic}.", "Write a review of a book about {topic}."),
            ("How was the book about {topic}?",),
        ),
        "I have read a book about {topic}.",
    ),
    "news": Task(
        Wordings(
            ("Write a news item about {topic}.", "What is new about {topic}?"),
            ("Report the latest on {topic}.",),
        ),
        "There is news about {topic}.",
    ),
}

READERS: tuple[str, ...] = (
    "",
    "a school class",
    "my neighbours",
    "new members",
    "an old friend",
    "guests from abroad",
    "a club meeting",
    "our newsletter",
    "a rainy day",
)
"""For whom or what the text is."""

_READER_WORDINGS = Wordings(
    (" It is for {reader}.", " It is meant for {reader}."), (" Have {reader} in mind.",)
)

QUESTIONS: dict[str, Task] = {
    "like": _question(
        "Do you like {topic}?", "Would you say that you like {topic}?", held_out="Do you care about {topic}?"
    ),
    "learn": _question(
        "Can we learn from {topic}?",
        "Is there much to learn from {topic}?",
        held_out="Could {topic} teach us?",
    ),
    "friend": _question(
        "Would you recommend {topic} to a friend?", held_out="Should a friend of yours try {topic}?"
    ),
    "know": _question("Should everybody know about {topic}?", held_out="Is it good to know about {topic}?"),
    "old": _question(
        "Did people long ago think about {topic}?", held_out="Had people of old a word for {topic}?"
    ),
    "miss": _question("Would you miss {topic}?", held_out="Do you depend on {topic}?"),
    "easy": _question("Is it easy to explain {topic}?", held_out="Can anybody explain {topic}?"),
    "museum": _question(
        "Should a museum tell us about {topic}?", held_out="Is a museum the place for {topic}?"
    ),
    "school": _question(
        "Should schools teach {topic}?",
        "Do schools need lessons about {topic}?",
        held_out="Is {topic} for schools?",
    ),
    "talk": _question(
        "Shall we talk about {topic}?",
        "Do you want to talk about {topic}?",
        held_out="Should I talk about {topic}?",
    ),
}
"""Tasks that are answered by yes, no or maybe."""


@dataclass(frozen=True)
class InstructionProblem(Problem):
    """A task on a topic under demands, each with its kwargs, in order of name."""

    task: str
    reader: str
    topic: str
    demands: tuple[tuple[str, Kwargs], ...]

    @property
    def content(self) -> Any:
        return [self.task, self.reader, self.topic, self.demands]

    def write(self, dice: Dice, style: Style) -> Sample:
        task = TASKS.get(self.task) or QUESTIONS[self.task]
        name, wording = task.wordings.pick(dice, style.held_out)
        request = wording.format(topic=self.topic)
        if self.reader:
            request += _READER_WORDINGS.pick(dice, style.held_out)[1].format(reader=self.reader)
        told = {key: dict(kwargs) for key, kwargs in self.demands}
        if "repeat" in told:
            told["repeat"] = {"prompt_to_repeat": request}
        asked = [_worded(key, told[key], dice, style.held_out) for key in dice.shuffled(list(told))]
        prompt = "\n".join([request, " ".join(asked)]) if "repeat" in told else " ".join([request, *asked])
        answer = self._answer(request, task.opening.format(topic=self.topic), told, dice)
        grader = {
            "name": "instructions",
            "instruction_id_list": [DEMANDS[key].id for key in told],
            "kwargs": list(told.values()),
            "strict": True,
            "prompt": request if "repeat" in told else prompt,
        }
        reasoning = self._reasoning(told, answer, style)
        metadata = {"wording": name, "trace": style.trace, "demands": list(told)}
        return Sample([user(prompt), assistant(answer, reasoning)], grader, metadata)

    def _answer(self, request: str, opening: str, told: dict[str, Kwargs], dice: Dice) -> str:
        """Where a text has to be recognised as English, the first of a few that is."""
        for _ in range(20):
            answer = compose(request, opening, self.topic, told, dice)
            if not told.keys() & {"upper", "lower"} or detect_language(answer) == "en":
                break
        return answer

    def _reasoning(self, told: dict[str, Kwargs], answer: str, style: Style) -> str:
        lines = [DEMANDS[key].account(kwargs, answer) for key, kwargs in told.items()]
        if style.trace == "short":
            return "\n".join(lines)
        plan = [
            f"The task is about {self.topic}. {len(told)} {'demand' if len(told) == 1 else 'demands'}:",
            *lines,
        ]
        if style.trace == "checked":
            plan += [f"check {number}: {line}" for number, line in enumerate(lines, start=1)]
            plan.append("All of it fits.")
        return "\n".join(plan)


def _worded(key: str, kwargs: Kwargs, dice: Dice, held_out: bool) -> str:
    values = {
        name: listing([str(item) for item in value]) if isinstance(value, list) else value
        for name, value in kwargs.items()
    }
    if "language" in values:
        values["language_name"] = LANGUAGES[values["language"]]
    return DEMANDS[key].wordings.pick(dice, held_out)[1].format(**values)


def draw(family: str, level: int, dice: Dice) -> InstructionProblem:
    """A problem whose first demand is of `family`; one demand at levels 1 (an easy one) and 2, one more a level from 3
    on."""
    count = max(1, level - 1)
    while True:
        first = dice.choice(
            [item for item in DEMANDS.values() if item.family == family and (item.easy or level > 1)]
        )
        chosen = [first]
        while len(chosen) < count:
            fitting = [item for item in DEMANDS.values() if all(compatible(item, other) for other in chosen)]
            if not fitting:
                break
            chosen.append(dice.choice(fitting))
        if len(chosen) == count:
            break
    names = {item.name for item in chosen}
    task = dice.choice(tuple(QUESTIONS if "choice" in names else TASKS))
    reader = dice.choice(READERS) if level > 1 and "choice" not in names else ""
    topic = dice.choice(tuple(SENTENCES if "language" in names else TOPICS))
    demands = sorted(((item.name, item.draw(dice, level)) for item in chosen), key=lambda pair: pair[0])
    return InstructionProblem(task, reader, topic, tuple(demands))
