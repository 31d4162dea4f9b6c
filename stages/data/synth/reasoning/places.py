"""Walks on a grid and shortest ways in a graph."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.arithmetic import check_trace
from stages.data.synth.reasoning.base import ReasoningProblem

_DIRECTIONS = {"north": ("y", 1), "east": ("x", 1), "south": ("y", -1), "west": ("x", -1)}


@dataclass(frozen=True)
class Grid(ReasoningProblem):
    """Walk and say how far away one ends: three moves at level 1; from level 3 on a robot that turns.

    moves: (direction, steps), or for the robot ("left" or "right", steps after the turn).
    """

    moves: tuple[tuple[str, int], ...]

    wordings = Wordings(
        (
            "{walk} How many steps are you away from the start, going only along the grid?",
            "{walk} How many steps is the shortest way back along the grid?",
            "On a grid: {walk} How far is the start, in steps along the lines?",
        ),
        (
            "Imagine squared paper. {walk} What is the number of steps back to where you began, along the lines?",
            "{walk} Along the grid, what distance lies between the end and the start?",
        ),
    )

    _COMPASS: ClassVar[tuple[str, ...]] = tuple(_DIRECTIONS)

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        count, longest = level + 2, 4 + level
        if level < 3:
            directions = [dice.choice(cls._COMPASS)]
            while len(directions) < count:
                directions.append(dice.choice([name for name in cls._COMPASS if name != directions[-1]]))
        else:
            directions = [dice.choice(("left", "right")) for _ in range(count)]
        return cls(tuple((direction, dice.integer(1, longest)) for direction in directions))

    @property
    def answer(self) -> int:
        place, facing = 0j, 1j
        for direction, steps in self.moves:
            if direction in _DIRECTIONS:
                facing = {"north": 1j, "east": 1, "south": -1j, "west": -1}[direction]
            else:
                facing *= 1j if direction == "left" else -1j
            place += steps * facing
        return int(abs(place.real) + abs(place.imag))

    def words(self) -> dict[str, str]:
        if self.moves[0][0] in _DIRECTIONS:
            walk = "Go " + ", then ".join(f"{steps} {direction}" for direction, steps in self.moves)
        else:
            walk = "You face north. " + ". ".join(
                f"Turn {direction} and walk {steps}" for direction, steps in self.moves
            )
        return {"walk": walk + "."}

    def steps(self, long: bool) -> list[str]:
        lines = ["x = 0; y = 0"] if long else []
        values, facing = {"x": 0, "y": 0}, "north"
        for direction, steps in self.moves:
            if direction in _DIRECTIONS:
                facing, label = direction, f"{direction} {steps}"
            else:
                turn = 1 if direction == "right" else -1
                facing = self._COMPASS[(self._COMPASS.index(facing) + turn) % 4]
                label = facing
            axis, sign = _DIRECTIONS[facing]
            before = values[axis]
            values[axis] += sign * steps
            lines.append(f"{label}: {axis} = {before} {'+' if sign > 0 else '-'} {steps} = {values[axis]}")
            if long:
                lines[-1] += f"; at ({values['x']}, {values['y']})"
        return [*lines, f"abs({values['x']}) + abs({values['y']}) = {self.answer}"]

    def checks(self) -> list[str]:
        """All steps on an axis at once."""
        sums: dict[str, list[int]] = {"x": [], "y": []}
        facing = "north"
        for direction, steps in self.moves:
            if direction in _DIRECTIONS:
                facing = direction
            else:
                facing = self._COMPASS[(self._COMPASS.index(facing) + (1 if direction == "right" else 3)) % 4]
            axis, sign = _DIRECTIONS[facing]
            sums[axis].append(sign * steps)
        lines = [f"sum({steps}) = {sum(steps)}" for steps in sums.values() if steps]
        return [*lines, f"{abs(sum(sums['x']))} + {abs(sum(sums['y']))} = {self.answer}"]


@dataclass(frozen=True)
class Graphs(ReasoningProblem):
    """The fewest steps between two places of a graph, breadth first: six places at level 1, one more a level."""

    edges: tuple[tuple[str, str], ...]
    start: str
    goal: str

    max_level = 15  # for want of letters

    wordings = Wordings(
        (
            "Roads join {edges}. How many roads does the shortest way from {start} to {goal} have?",
            "There are these connections: {edges}. What is the least number of steps from {start} to {goal}?",
            "In a graph with the edges {edges}, how many edges are on a shortest path from {start} to {goal}?",
        ),
        (
            "Bus lines run between {edges}. At least how many lines must one take from {start} to {goal}?",
            "You may move along {edges}. You stand at {start} and want to be at {goal}. How few moves will do?",
        ),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        places = dice.sample("ABCDEFGHJKMNPQRSTUVWXYZ", level + 5)
        edges = {
            tuple(sorted((place, dice.choice(places[max(0, i - 3) : i]))))
            for i, place in enumerate(places)
            if i
        }
        extra = 1 + level // 2
        while extra:
            edges.add(tuple(sorted(dice.sample(places, 2))))
            extra -= 1
        ordered = tuple((first, second) for first, second in dice.shuffled(sorted(edges)))
        while True:
            problem = cls(ordered, dice.choice(places), "")
            far = problem._layers()[2:]
            if far:  # answers of all sizes are equally likely
                return replace(problem, goal=dice.choice(dice.choice(far)))

    @property
    def essence(self) -> Any:
        """The edges in order, places numbered as the search from the start meets them."""
        order = [place for layer in self._layers() for place in layer]
        numbered = {place: number for number, place in enumerate(order)}
        edges = sorted(sorted((numbered[first], numbered[second])) for first, second in self.edges)
        return [edges, numbered[self.goal]]

    @property
    def answer(self) -> int:
        return _distances(self.edges)[self.start, self.goal]

    def words(self) -> dict[str, str]:
        edges = ", ".join(f"{first}-{second}" for first, second in self.edges)
        return {"edges": edges, "start": self.start, "goal": self.goal}

    def _neighbours(self, place: str) -> list[str]:
        return sorted(
            second if first == place else first for first, second in self.edges if place in (first, second)
        )

    def _layers(self) -> list[list[str]]:
        """The places in 0, 1, 2... steps from the start."""
        layers, seen = [[self.start]], {self.start}
        while found := {
            other for place in layers[-1] for other in self._neighbours(place) if other not in seen
        }:
            layers.append(sorted(found))
            seen |= found
        return layers

    def _layers_to_goal(self) -> list[list[str]]:
        layers = self._layers()
        return layers[: 1 + next(number for number, layer in enumerate(layers) if self.goal in layer)]

    def steps(self, long: bool) -> list[str]:
        layers = self._layers_to_goal()
        lines = [f"0 steps: {self.start}"]
        for number, layer in enumerate(layers[1:], start=1):
            if long:
                lines += [
                    f"from {place} to {', '.join(self._neighbours(place))}" for place in layers[number - 1]
                ]
            lines.append(f"{number} {'step' if number == 1 else 'steps'}: {', '.join(layer)}")
        return [*lines, f"{self.goal} is reached after {len(layers) - 1}"]

    def checks(self) -> list[str]:
        """One way of that length, found backwards."""
        layers = self._layers_to_goal()
        way = [self.goal]
        for layer in layers[-2::-1]:
            way.append(next(place for place in layer if place in self._neighbours(way[-1])))
        way.reverse()
        return [f"way: {'-'.join(way)}", f"{len(way)} - 1 = {len(way) - 1}"]

    def verify(self, lines: list[str]) -> None:
        """Layers are compared with distances found by Floyd and Warshall's method, ways with the edges."""
        check_trace(lines)
        distances = _distances(self.edges)
        for line in lines:
            label, colon, text = line.partition(": ")
            if label == "way":
                way = text.split("-")
                if any(tuple(sorted(pair)) not in self.edges for pair in pairwise(way)):
                    raise ValueError(f"{line!r}: no such way")
            elif colon and label.endswith(("step", "steps")):
                reached = [place for place in distances if place[0] == self.start]
                layer = sorted(
                    place for _, place in reached if distances[self.start, place] == int(label.split()[0])
                )
                if layer != text.split(", "):
                    raise ValueError(f"{line!r}: should be {layer}")


@lru_cache(maxsize=8)
def _distances(edges: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], int]:
    """The least number of edges between all pairs of places."""
    places = sorted({place for edge in edges for place in edge})
    far = len(places)
    distances = {(first, second): 0 if first == second else far for first in places for second in places}
    for first, second in edges:
        distances[first, second] = distances[second, first] = 1
    for middle in places:
        for first in places:
            for second in places:
                through = distances[first, middle] + distances[middle, second]
                distances[first, second] = min(distances[first, second], through)
    return distances
