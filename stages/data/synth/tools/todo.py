"""A to-do list keeper: tasks in a few lists, each due on a day of the week."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.errand import Errand, Report, Script, act, number_in, vague
from stages.data.synth.tools.service import Service, State, ToolFault, text
from stages.data.synth.words import THINGS, word_list

_LISTS = ("home", "work", "shop", "club")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_VERBS = word_list("buy clean repair return find sort wash pack label sell borrow draw weigh count")


class Todo(Service):
    prompt: ClassVar = "You keep to-do lists. Use the tools, and ask when you need to know more."
    tools: ClassVar = {
        "list_tasks": ("List the open tasks of a list.", {"list": text("Name of the list", *_LISTS)}),
        "add_task": (
            "Add a task to a list.",
            {
                "list": text("Name of the list", *_LISTS),
                "task": text("What is to be done"),
                "day": text("Day on which it is due", *_DAYS),
            },
        ),
        "finish_task": ("Mark a task as done.", {"task_id": text("Id of the task")}),
        "move_task": (
            "Move a task to another list.",
            {"task_id": text("Id of the task"), "list": text("Name of the new list", *_LISTS)},
        ),
    }

    @classmethod
    def new(cls, dice: Dice) -> State:
        return {"tasks": {}, "next": dice.integer(100, 900)}

    @classmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        put(
            state,
            dice.choice(_LISTS),
            f"{dice.choice(_VERBS)} a new {dice.choice(THINGS)}",
            dice.choice(_DAYS),
            dice,
        )

    def list_tasks(self, list: str) -> Any:
        return [
            {"task_id": key, "task": item["task"], "day": item["day"]}
            for key, item in self.state["tasks"].items()
            if item["list"] == list and not item["done"]
        ]

    def add_task(self, list: str, task: str, day: str) -> Any:
        identifier = f"T{self.state['next']}"
        self.state["next"] += 1
        self.state["tasks"][identifier] = {"list": list, "task": task, "day": day, "done": False}
        return {"task_id": identifier}

    def finish_task(self, task_id: str) -> Any:
        task = self._open(task_id)
        task["done"] = True
        return {"done": task["task"]}

    def move_task(self, task_id: str, list: str) -> Any:
        task = self._open(task_id)
        if task["list"] == list:
            raise ToolFault(f"{task_id} is in {list} already")
        task["list"] = list
        return {"list": list}

    def _open(self, task_id: str) -> Any:
        task = self.state["tasks"].get(task_id)
        if task is None:
            raise ToolFault(f"there is no task {task_id}")
        if task["done"]:
            raise ToolFault(f"{task_id} is done already")
        return task


def put(state: State, list: str, task: str, day: str, dice: Dice) -> None:
    identifier = number_in(state, "tasks", "T", dice)
    state["tasks"][identifier] = {"list": list, "task": task, "day": day, "done": False}


def _task(dice: Dice) -> str:
    return f"{dice.choice(_VERBS)} the {dice.choice(THINGS)}"


def _find(state: State, task: str) -> Any:
    return next(item for item in state["tasks"].values() if item["task"] == task)


def _pick(tasks: Any, task: str) -> str:
    return {item["task"]: str(item["task_id"]) for item in tasks}[task]


@dataclass(frozen=True)
class Add(Errand):
    list: str
    task: str
    day: str

    wordings = Wordings(
        ("Put '{task}' on the {list} list for {day}.", "Add '{task}' to my {list} list, due on {day}."),
        ("On {day} I have to {task}. That belongs on the {list} list.",),
    )
    vague = vague(
        "Put '{task}' on the {list} list.",
        "'{task}' is still lacking on the {list} list.",
        "On which day is it due?",
        "On {day}.",
    )
    aim = "a new task"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(_LISTS), _task(dice), dice.choice(_DAYS))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.task,)

    def prepare(self, state: State, dice: Dice) -> None:
        pass

    def script(self) -> Script:
        arguments = {"list": self.list, "task": self.task, "day": self.day}
        (added,) = yield act(
            "List, task and day are known, so I can add it.", ("add_task", arguments), decisive=True
        )
        content = (
            f"'{self.task}' is on the {self.list} list for {self.day}, with the number {added['task_id']}."
        )
        return Report("The task is added.", content, (self.task, self.day))

    def apply(self, state: State) -> None:
        identifier = f"T{state['next']}"
        state["next"] += 1
        state["tasks"][identifier] = {"list": self.list, "task": self.task, "day": self.day, "done": False}

    def facts(self) -> tuple[str, ...]:
        return (self.task, self.day)


@dataclass(frozen=True)
class _AboutTask(Errand):
    list: str
    task: str

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(_LISTS), _task(dice))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.task,)

    def prepare(self, state: State, dice: Dice) -> None:
        put(state, self.list, self.task, dice.choice(_DAYS), dice)

    def facts(self) -> tuple[str, ...]:
        return (self.task,)

    def _look_up(self) -> Any:
        (tasks,) = yield act(
            "I need the number of the task.", ("list_tasks", {"list": self.list}), decisive=True
        )
        return _pick(tasks, self.task)


@dataclass(frozen=True)
class Finish(_AboutTask):
    wordings = Wordings(
        ("I am done with '{task}' on the {list} list.", "Tick off '{task}' on my {list} list."),
        ("On the {list} list, '{task}' has been taken care of.",),
    )
    vague = vague(
        "I am done with '{task}'.",
        "'{task}' has been taken care of.",
        "On which list is it?",
        "On the {list} list.",
    )
    aim = "to have a task marked as done"

    def script(self) -> Script:
        identifier = yield from self._look_up()
        yield act(f"It is {identifier}.", ("finish_task", {"task_id": identifier}), decisive=True)
        return Report("The task is done.", f"Well done. '{self.task}' is ticked off.", (self.task,))

    def apply(self, state: State) -> None:
        _find(state, self.task)["done"] = True


@dataclass(frozen=True)
class Move(_AboutTask):
    target: str

    wordings = Wordings(
        (
            "Move '{task}' from the {list} list to the {target} list.",
            "'{task}' is on the {list} list but belongs to {target}.",
        ),
        ("Would you take '{task}' off {list} and put it on {target}?",),
    )
    vague = vague(
        "Move '{task}' away from the {list} list.",
        "'{task}' has no place on the {list} list.",
        "To which list shall I move it?",
        "To {target}.",
    )
    aim = "to have a task on another list"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        source, target = dice.sample(_LISTS, 2)
        return cls(source, _task(dice), target)

    def script(self) -> Script:
        identifier = yield from self._look_up()
        arguments = {"task_id": identifier, "list": self.target}
        yield act(f"It is {identifier}.", ("move_task", arguments), decisive=True)
        return Report(
            "The task is moved.", f"'{self.task}' is now on the {self.target} list.", (self.task, self.target)
        )

    def apply(self, state: State) -> None:
        _find(state, self.task)["list"] = self.target

    def facts(self) -> tuple[str, ...]:
        return (self.task, self.target)


@dataclass(frozen=True)
class When(_AboutTask):
    """When is a task due?"""

    day: str

    wordings = Wordings(
        (
            "When do I have to {task}? It is on the {list} list.",
            "On which day is '{task}' due? See the {list} list.",
        ),
        ("Look at the {list} list. What is the day for '{task}'?",),
    )
    aim = "to know the day of a task"

    @classmethod
    def draw(cls, dice: Dice) -> Self:
        return cls(dice.choice(_LISTS), _task(dice), dice.choice(_DAYS))

    def prepare(self, state: State, dice: Dice) -> None:
        put(state, self.list, self.task, self.day, dice)

    def script(self) -> Script:
        (tasks,) = yield act("I look at the list.", ("list_tasks", {"list": self.list}), decisive=True)
        day = {item["task"]: item["day"] for item in tasks}[self.task]
        return Report(f"The entry says {day}.", f"'{self.task}' is due on {day}.", (day,))

    def facts(self) -> tuple[str, ...]:
        return (self.day,)


ERRANDS: tuple[type[Errand], ...] = (Add, Finish, Move, When)
