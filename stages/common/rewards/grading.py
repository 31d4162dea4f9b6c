"""Grades as rewards. Graders run in processes of their own, which are ended when one takes too long: nothing else stops
a regular expression, a tool or a sandbox that hangs."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

from evals.episodes.play import Episode, EpisodeEnd
from evals.graders.line_process import LineProcess, NoAnswerError
from stages.common.rewards.part import Failure
from stages.common.rewards.settings import GraderReward

_MOST_WORKERS = 8
_LOOK_EVERY = 0.2  # seconds between looks whether the work shall end


class Grading:
    """The part `grader` of a reward."""

    def __init__(self, settings: GraderReward, check: Callable[[], None]) -> None:
        self._settings = settings
        self._check = check
        self._idle: SimpleQueue[LineProcess | None] = SimpleQueue()  # None: one that is yet to be started
        workers = min(os.cpu_count() or 1, _MOST_WORKERS)
        for _ in range(workers):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(workers)
        self._alive: set[LineProcess] = set()

    def values(self, episodes: Sequence[Episode]) -> list[float | Failure]:
        futures = [self._threads.submit(self._value, episode) for episode in episodes]
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
                self._check()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._alive):
            worker.end()
        self._alive.clear()

    def _value(self, episode: Episode) -> float | Failure:
        if episode.task.grader is None:
            return Failure("the line has no grader")
        part = self._settings.part
        if part is None and (episode.end is not EpisodeEnd.ANSWERED or episode.response.problems):
            return 0.0
        answer = self._ask({"grader": dict(episode.task.grader), "response": asdict(episode.response)})
        if isinstance(answer, Failure):
            return answer
        if part is None:
            return float(answer["score"])
        if part not in answer["parts"]:
            return Failure(f"the grade has no part {part!r}, but {', '.join(answer['parts']) or 'none'}")
        return float(answer["parts"][part])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any] | Failure:
        """By a worker that is free. One that fails is ended, and another started when it is needed."""
        worker = self._idle.get()
        try:
            if worker is None:
                worker = LineProcess("stages.common.rewards.grading_worker")
                self._alive.add(worker)
            answer = worker.ask(question, self._settings.seconds)
        except NoAnswerError as error:
            if worker is not None:
                worker.end()
                self._alive.discard(worker)
                worker = None
            return Failure(str(error))
        finally:
            self._idle.put(worker)
        return Failure(answer["error"]) if "error" in answer else answer
