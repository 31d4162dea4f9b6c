"""Play episodes through the engine: a question, turns, tool results, until the model answers.

    episodes = play(lm, tokenizer, stop_ids, [(task, seed), ...], EpisodeSettings(max_tokens=512, max_turns=8))

All episodes share one batch, each at a turn of its own. What an episode becomes depends on its task, its seed and the
settings, not on what is played beside it, beyond the last bits of the logits (docs/inference.md).
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evals.environments.session import Session, open_session
from evals.episodes.episode import Episode, EpisodeEnd, EpisodeSettings, Turn
from evals.episodes.task import Task
from evals.episodes.tokens import Between, opens_thinking, prompt_ids
from model.chat.events import Defect, ParsedMessage, joined
from model.chat.parsers import parse
from model.chat.tool_calls import ToolCall
from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.thinking import ThinkingBudget
from model.seeds import seed64

__all__ = ["Episode", "EpisodeEnd", "EpisodeSettings", "Task", "Turn", "play", "played"]

Sessions = Callable[[Mapping[str, Any]], Session | None]
"""Opens the environment of a grader."""

_TOLD_OF_AN_ERROR = 200
"""Characters of an exception that the model is shown."""

_UNREADABLE_CALLS = {Defect.UNCLOSED_TOOL_CALL, Defect.STRAY_TOOL_CALL_CLOSE, Defect.INVALID_TOOL_CALL}


def play(
    lm: HybridLM,
    tokenizer: Any,
    stop_ids: frozenset[int],
    asked: Sequence[tuple[Task, int]],
    settings: EpisodeSettings,
    *,
    max_rows: int = 32,
    check: Callable[[], None] = lambda: None,
    sessions: Sessions = open_session,
) -> list[Episode]:
    """The episodes of (task, seed) in their order, at most `max_rows` of them at a time.

    lm: in evaluation mode. stop_ids: the tokens that end a turn (`model.inference.stopping`). check: called between the
    engine's steps; ends everything by an exception. sessions: opens the environment of a task's grader; where there is none,
    the first turn is the last.

    Raises UsageError for a prompt that leaves no room in `max_length`, ArtifactError for a chat that the template refuses.
    """
    episodes = dict(
        played(lm, tokenizer, stop_ids, asked, settings, max_rows=max_rows, check=check, sessions=sessions)
    )
    return [episodes[index] for index in range(len(asked))]


def played(
    lm: HybridLM,
    tokenizer: Any,
    stop_ids: frozenset[int],
    asked: Sequence[tuple[Task, int]],
    settings: EpisodeSettings,
    *,
    max_rows: int = 32,
    check: Callable[[], None] = lambda: None,
    sessions: Sessions = open_session,
) -> Iterator[tuple[int, Episode]]:
    """As `play`, each episode with its number in `asked` as soon as it has ended."""
    prompts = {id(task): task for task, _ in asked}
    prompt_of = {key: _fitting_prompt(tokenizer, task, settings) for key, task in prompts.items()}
    waiting = deque(enumerate(asked))
    generator = Generator(lm, tokenizer, max_rows=max_rows)
    speaking: dict[int, tuple[int, _Playing]] = {}  # by the number of the request
    while waiting or speaking:
        check()
        while waiting and len(speaking) < max_rows:
            index, (task, seed) = waiting.popleft()
            session = None if task.grader is None else sessions(task.grader)
            episode = _Playing(tokenizer, stop_ids, task, seed, settings, prompt_of[id(task)], session)
            speaking[generator.add(episode.request())] = index, episode
        for update in generator.step():
            if update.completion is None:
                continue
            index, episode = speaking.pop(update.request)
            end = episode.take(update.completion)
            if end is None:
                speaking[generator.add(episode.request())] = index, episode
            else:
                yield index, episode.ended(end)


def _fitting_prompt(tokenizer: Any, task: Task, settings: EpisodeSettings) -> list[int]:
    ids = prompt_ids(tokenizer, task)
    if settings.max_length is not None and len(ids) >= settings.max_length:
        raise UsageError(
            f"the prompt has {len(ids)} tokens, and the whole episode may have {settings.max_length}",
            where=task.place,
            remedy="leave the task out, or allow more tokens",
        )
    return ids


class _Playing:
    """An episode on its way."""

    def __init__(
        self,
        tokenizer: Any,
        stop_ids: frozenset[int],
        task: Task,
        seed: int,
        settings: EpisodeSettings,
        prompt: Sequence[int],
        session: Session | None,
    ) -> None:
        self._stop_ids = stop_ids
        self._task = task
        self._seed = seed
        self._settings = settings
        self._session = session
        self._between = Between(tokenizer, stop_ids, task, prompt)
        self._ids = list(prompt)
        self._sampled = [False] * len(prompt)
        self._logprobs = [0.0] * len(prompt)
        self._thinks = opens_thinking(tokenizer, prompt)
        self._said: list[dict[str, Any]] = []
        self._parsed: list[ParsedMessage] = []
        self._turns: list[Turn] = []
        self._tool_errors = 0

    def request(self) -> Request:
        """The next turn."""
        tokens = self._room()
        settings = self._settings
        budget = tokens if settings.thinking_budget is None else settings.thinking_budget
        return Request(
            self._ids,
            tokens,
            settings.sampling(seed64(f"{self._seed} {len(self._turns)}")),
            self._stop_ids,
            # One that cannot be used up leaves the thinking alone, and counts its tokens.
            thinking_budget=ThinkingBudget(budget, settings.thinking_grace) if self._thinks else None,
        )

    def take(self, completion: Completion) -> EpisodeEnd | None:
        """Add a turn and, if it called tools, their results. Says how the episode ends, if it does."""
        message = self._add_turn(completion)
        if completion.finish_reason is FinishReason.LENGTH:
            return EpisodeEnd.LENGTH
        readable = all(problem.defect not in _UNREADABLE_CALLS for problem in message.problems)
        if not message.tool_calls or not readable or self._session is None:
            return EpisodeEnd.ANSWERED
        if len(self._turns) >= self._settings.max_turns:
            return EpisodeEnd.TURNS
        results = [self._result(self._session, call) for call in message.tool_calls]
        said = [*self._said, *({"role": "tool", "content": result} for result in results)]
        between = self._between.ids(said)
        if self._room(between) < 1:
            return EpisodeEnd.LENGTH
        self._said = said
        self._ids += between
        self._sampled += [False] * len(between)
        self._logprobs += [0.0] * len(between)
        return None

    def ended(self, end: EpisodeEnd) -> Episode:
        return Episode(
            task=self._task,
            seed=self._seed,
            ids=self._ids,
            sampled=self._sampled,
            logprobs=self._logprobs,
            messages=self._said,
            response=joined(self._parsed),
            end=end,
            turns=self._turns,
            tool_errors=self._tool_errors,
        )

    def _add_turn(self, completion: Completion) -> ParsedMessage:
        start, chosen = len(self._ids), [not forced for forced in completion.forced]
        self._ids += completion.token_ids
        self._sampled += chosen
        self._logprobs += [
            logprob if own else 0.0 for logprob, own in zip(completion.logprobs, chosen, strict=True)
        ]
        answer_tokens = completion.answer_tokens
        if not self._thinks:
            answer_tokens = len(completion.token_ids) - (completion.token_ids[-1] in self._stop_ids)
        self._turns.append(
            Turn(
                start,
                len(self._ids),
                completion.text,
                completion.thinking_tokens,
                answer_tokens,
                any(completion.forced),
            )
        )
        message = parse(completion.text, thinking=self._thinks)
        self._parsed.append(message)
        self._said.append(message.as_message())
        return message

    def _room(self, between: Sequence[int] = ()) -> int:
        """How many tokens the next turn may have."""
        generated = sum(turn.end - turn.start for turn in self._turns)
        room = self._settings.max_tokens - generated
        if self._settings.max_length is not None:
            room = min(room, self._settings.max_length - len(self._ids) - len(between))
        return room

    def _result(self, session: Session, call: ToolCall) -> str:
        """A tool's answer as text that can be encoded. What a tool raises is an answer, too."""
        try:
            result = session.call(call.name, json.loads(call.arguments))
            if not isinstance(result, str):
                raise TypeError(f"the tool returned a {type(result).__name__}, and no text")
        except Exception as error:  # a tool is anybody's program
            self._tool_errors += 1
            reason = f"{type(error).__name__}: {error}"[:_TOLD_OF_AN_ERROR]
            result = f"Error: {call.name} failed ({reason})"
        return result.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
