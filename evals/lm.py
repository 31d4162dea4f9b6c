"""This core as a model of lm-eval: the same requests give the numbers that lm-eval's own `hf` backend gives.

    lm = HybridEvalLM.from_artifact(Path("artifacts/base"))
    simple_evaluate(model=lm, tasks=["nano2_arc_easy"], task_manager=task_manager())

What becomes which tokens (evals/encoding.py) follows that backend; what is faster is in `model.inference`. Three
differences are meant, all for chat models: a rendered chat gets no begin-of-text token on top, a stop string inside the
thinking does not end the answer, and thinking that never ended is no answer, where `hf` would score the thoughts.

A request whose prompt is a `TaskPrompt` is answered by an episode, its tools run in the environment of its grader.

Whatever is asked twice is computed once; with a `ResponseCache` also if the first time was in another process.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.answers import Answer, Generated
from evals.encoding import RequestEncoder
from evals.episodes.asking import DEFAULT_MAX_TURNS, AskedEpisode, episode_settings, kept
from evals.episodes.play import EpisodeSettings, played
from evals.episodes.task import Task, TaskPrompt
from evals.episodes.tokens import prompt_ids
from evals.generation_settings import GenerationSettings
from evals.response_cache import ResponseCache, content_key
from model.chat.special_tokens import THINK_OPEN
from model.chat.template import render
from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.inference.generation import Completion, FinishReason, Generator, Request
from model.inference.scoring import score_continuations
from model.inference.stopping import stop_token_ids
from model.inference.thinking import ThinkingBudget
from model.loading import load
from model.tokenizer import load_tokenizer

_BATCHES_AT_A_TIME = 4
"""Batches of scored requests that are kept, or lost to an interruption, together. What is scored together does not depend
on what was kept before, so that an evaluation that goes on gives the same bits."""


class _Bar(Protocol):
    def update(self, advance: int = 1) -> None: ...


class _NoBar:
    def update(self, advance: int = 1) -> None:
        pass


Progress = Callable[[str, int, str], AbstractContextManager[_Bar]]
"""Makes a progress bar from a title, a total and a unit."""

Tokens = tuple[int, ...]
TokenRequest = tuple[tuple[str, str] | None, Sequence[int], Sequence[int]]
"""lm-eval's: the texts, the context's tokens, the continuation's tokens."""


class _Memory(dict[str, Any]):
    """What a ResponseCache does, for as long as this process runs."""

    def put(self, values: Mapping[str, Any]) -> None:
        self.update(values)


class HybridEvalLM(TemplateLM):
    """Answers lm-eval's three kinds of requests. A generated answer is an `evals.answers.Answer`.

    max_length: tokens of context and continuation together; what is longer loses its beginning. None: the
    `max_position_embeddings` of the config, as `hf` takes it. The model has no position encoding, so more is possible.
    batch_tokens: tokens that are read at a time. batch_rows: requests that are generated for at a time.
    chat: the requests are rendered chats, which have all their control tokens.
    think_end: the text that ends the thinking of a reasoning model; None if answers hold no thinking.
    thinking: what the chat template is told; None leaves it to the messages.
    thinking_sampling: how an answer is sampled that begins inside of the thinking, if the task says nothing of sampling
    (evals.generation_settings.THINKING_SAMPLING is the report's); None: greedily, as `hf` does.
    stop_ids: tokens that end a generated text.
    seed: a sampled answer depends on it, on the request, and on how often the same was asked before.
    cache, identity: answers are kept in the cache, under the content hash of the model (and whatever else is not in the
    request and decides the answer). check: called between batches; ends the evaluation by an exception.
    """

    def __init__(
        self,
        lm: HybridLM,
        tokenizer: Any,
        *,
        stop_ids: frozenset[int],
        chat: bool = False,
        max_length: int | None = None,
        batch_tokens: int = 4096,
        batch_rows: int = 32,
        think_end: str | None = None,
        thinking: bool | None = None,
        thinking_sampling: Mapping[str, Any] | None = None,
        seed: int = 0,
        cache: ResponseCache | None = None,
        identity: str = "",
        progress: Progress = lambda _title, _total, _unit: nullcontext(_NoBar()),
        warn: Callable[[str], None] = lambda _message: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.max_length = max_length or lm.config.max_position_embeddings
        self._encoder = RequestEncoder(tokenizer, chat=chat)
        self._stop_ids = stop_ids
        self._batch_tokens = batch_tokens
        self._batch_rows = batch_rows
        self._think_end = think_end
        self._thinking = thinking
        self._thinking_sampling = thinking_sampling
        self._seed = seed
        self._known: ResponseCache | _Memory = _Memory() if cache is None else cache
        self._identity = f"{identity} {lm.activation_dtype}"
        self._progress = progress
        self._warn = warn
        self._check = check
        self._settings: dict[str, Counter[tuple[bool, GenerationSettings]]] = {}

    @classmethod
    def from_artifact(
        cls,
        directory: Path,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        chat: bool = False,
        **settings: Any,
    ) -> "HybridEvalLM":
        """The model and tokenizer of a checkpoint directory. `chat`: a text also ends where a turn ends.

        `settings` are the constructor's. Raises ArtifactError if the directory is not usable.
        """
        lm = load(directory, device=device, dtype=dtype)
        tokenizer = load_tokenizer(directory, lm.config.vocab_size)
        stop_ids = stop_token_ids(directory, lm.config, tokenizer, chat=chat)
        return cls(lm, tokenizer, stop_ids=stop_ids, chat=chat, **settings)

    @property
    def device(self) -> Any:
        return self.lm.device

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        return self._encoder.prefix_id

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def generation_settings(self) -> dict[str, list[dict[str, Any]]]:
        """How answers were generated so far: for each task the settings that its requests had, with their number."""
        return {
            task: [
                {"requests": count, "thinking": opened, **_as_told(wanted)}
                for (opened, wanted), count in used.items()
            ]
            for task, used in self._settings.items()
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._encoder.encode([string], add_special_tokens)[0]

    def apply_chat_template(
        self,
        chat_history: list[dict[str, Any]],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        """The conversation as text, open for the assistant's answer or for the rest of its last message.

        thinking: what the item wants; this object's own setting goes before it.
        """
        return render(
            self.tokenizer,
            chat_history,
            tools=tools,
            thinking=thinking if self._thinking is None else self._thinking,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def loglikelihood(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        """For each (context, continuation) the continuation's log-probability in nats, and whether greedy decoding
        would give it."""
        texts = [request.args for request in requests]
        inside = sum(_opens_thinking(context) for context, _ in texts) if self._think_end else 0
        if inside:
            self._warn(
                f"{inside} of {len(texts)} requests are scored inside of the thinking; --no-thinking closes it before"
            )
        pairs = self._encoder.encode_pairs(texts)
        return self._loglikelihood_tokens(
            [
                (text, context, continuation)
                for text, (context, continuation) in zip(texts, pairs, strict=True)
            ]
        )

    def loglikelihood_rolling(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[float]:
        """The log-probability of each whole text, read in windows of `max_length` tokens."""
        texts = self._encoder.encode([request.args[0] for request in requests])
        windows: list[TokenRequest] = []
        owners: list[int] = []
        for owner, tokens in enumerate(texts):
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def _loglikelihood_tokens(self, requests: Sequence[TokenRequest], **_: Any) -> list[tuple[float, bool]]:
        pairs = [self._fitted(context, continuation) for _, context, continuation in requests]
        longer = sum(
            len(context) + len(continuation) > self.max_length + 1 for _, context, continuation in requests
        )
        if longer:
            self._warn(
                f"{longer} of {len(requests)} requests are longer than {self.max_length} tokens and lost their beginning"
            )
        keys = [
            self._key(kind="loglikelihood", context=_digest(pair[0]), continuation=pair[1]) for pair in pairs
        ]
        scored = [index for index, (_, continuation) in enumerate(pairs) if continuation]
        found = self._found(keys[index] for index in scored)
        with self._progress("scoring", len(scored), "request") as bar:
            for portion in self._portions(pairs, scored):
                missing = {keys[index]: pairs[index] for index in portion if keys[index] not in found}
                bar.update(len(portion) - len(missing))
                if missing:
                    scores = dict(zip(missing, self._scored(list(missing.values()), bar), strict=True))
                    self._known.put(scores)
                    found |= scores
        nothing = (0.0, True)  # the score of a continuation without tokens
        return [
            (found[key][0], found[key][1]) if pair[1] else nothing
            for key, pair in zip(keys, pairs, strict=True)
        ]

    def _portions(self, pairs: Sequence[tuple[Tokens, Tokens]], scored: Sequence[int]) -> Iterator[list[int]]:
        """Requests that are scored and kept together: those of one context, and those of nearly its length."""
        portion: list[int] = []
        size = 0
        for index in sorted(scored, key=lambda index: (-len(pairs[index][0]), pairs[index], index)):
            length = sum(map(len, pairs[index]))
            if (
                size + length > _BATCHES_AT_A_TIME * self._batch_tokens
                and pairs[index][0] != pairs[portion[-1]][0]
            ):
                yield portion
                portion, size = [], 0
            portion.append(index)
            size += length
        if portion:
            yield portion

    def _scored(self, pairs: Sequence[tuple[Tokens, Tokens]], bar: _Bar) -> list[tuple[float, bool]]:
        def on_scored(count: int) -> None:
            bar.update(count)
            self._check()

        scores = score_continuations(self.lm, pairs, batch_tokens=self._batch_tokens, on_scored=on_scored)
        return [(score.logprob, score.greedy) for score in scores]

    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[Tokens, Tokens]:
        """Context and continuation without what is too much at the beginning; the last token is only predicted."""
        if len(continuation) > self.max_length:
            raise ArtifactError(
                f"a continuation to be scored has {len(continuation)} tokens, the model reads {self.max_length}",
                where="task data",
                remedy="give a larger --max-length",
            )
        kept = self.max_length + 1 - len(continuation)
        return tuple(context[-kept:]), tuple(continuation)

    def generate_until(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[str]:
        """For each (context, settings) the generated text, thinking and everything from a stop string on removed."""
        tasks = [request for request in requests if isinstance(request.args[0], TaskPrompt)]
        texts = [request for request in requests if not isinstance(request.args[0], TaskPrompt)]
        if not tasks and any("max_turns" in request.args[1] for request in texts):
            raise UsageError(
                "max_turns is for chats whose grader has an environment, and there are none",
                where="generation_kwargs",
                remedy="take it out",
            )
        of_texts, of_tasks = iter(self._generated(texts)), iter(self._played(tasks))
        return [next(of_tasks if isinstance(each.args[0], TaskPrompt) else of_texts) for each in requests]

    def _generated(self, requests: Sequence[Instance]) -> list[Answer]:
        """Answers in one go."""
        asked = self._requests(requests)
        keys = [self._request_key(request) for request in asked]
        found = self._found(keys)
        missing = {key: request for key, request in zip(keys, asked, strict=True) if key not in found}
        generator = Generator(self.lm, self.tokenizer, max_rows=self._batch_rows)
        longest_first = sorted(
            missing, key=lambda key: (-len(missing[key].prompt_ids), missing[key].prompt_ids, key)
        )
        numbers = {generator.add(missing[key]): key for key in longest_first}
        with self._progress("generating", len(found) + len(missing), "answer") as bar:
            bar.update(len(found))
            while generator.busy:
                self._check()
                ended = {
                    numbers[update.request]: _kept(update.completion, missing[numbers[update.request]])
                    for update in generator.step()
                    if update.completion is not None
                }
                if ended:
                    self._known.put(ended)
                    found |= ended
                    bar.update(len(ended))
        return [
            self._answer(request.args[0], wanted, found[key])
            for request, wanted, key in zip(requests, asked, keys, strict=True)
        ]

    def _found(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known already."""
        return {key: value for key in dict.fromkeys(keys) if (value := self._known.get(key)) is not None}

    def _requests(self, requests: Sequence[Instance]) -> list[Request]:
        """What the generator is asked. Equal requests that are sampled get different seeds."""
        texts = list(dict.fromkeys(request.args[0] for request in requests))
        prompts = dict(zip(texts, self._encoder.encode(texts), strict=True))
        asked_before: Counter[str] = Counter()
        asked, longer = [], 0
        for request in requests:
            prompt = prompts[request.args[0]]
            opened = _opens_thinking(request.args[0])
            settings = self._wanted(request, opened)
            fitted = prompt[-(self.max_length - settings.max_tokens) :]
            longer += len(fitted) < len(prompt)
            same = content_key([_digest(tuple(fitted)), request.args[1]])
            seed = _seed(self._seed, fitted, asked_before[same])
            asked_before[same] += 1
            asked.append(self._request(fitted, settings, seed, opened=opened))
        if longer:
            self._warn(
                f"{longer} of {len(requests)} prompts left no room for the answer and lost their beginning"
            )
        return asked

    def _wanted(self, request: Instance, opened: bool, max_turns: int | None = None) -> GenerationSettings:
        """The settings of a request, and a note of them. max_turns: where it does not say; None: it has but one turn."""
        settings = GenerationSettings.of(
            request.args[1], request.task_name, self._thinking_sampling if opened else None
        )
        if settings.max_tokens >= self.max_length:
            raise UsageError(
                f"the task asks for {settings.max_tokens} new tokens; with its prompt the model reads {self.max_length}",
                where=request.task_name or "",
                remedy="give a larger --max-length, or fewer tokens with --gen max_gen_toks=N",
            )
        if settings.max_turns is None or max_turns is None:
            settings = replace(settings, max_turns=max_turns)
        self._settings.setdefault(request.task_name or "", Counter())[opened, settings] += 1
        return settings

    def _request(
        self, prompt: list[int], settings: GenerationSettings, seed: int, *, opened: bool
    ) -> Request:
        """A stop string that is a special token, and so never part of a text, stops by its id."""
        special = set(self.tokenizer.all_special_tokens)
        ids = self.tokenizer.convert_tokens_to_ids([stop for stop in settings.stop if stop in special])
        budget = settings.max_tokens if settings.thinking_budget is None else settings.thinking_budget
        return Request(
            prompt,
            settings.max_tokens,
            settings.sampling(seed),
            self._stop_ids | set(ids),
            tuple(stop for stop in settings.stop if stop not in special),
            stop_after=self._think_end if self._think_end and opened else "",
            # One that cannot be used up leaves the thinking alone, and counts its tokens.
            thinking_budget=ThinkingBudget(budget, settings.thinking_grace) if opened else None,
        )

    def _played(self, requests: Sequence[Instance]) -> list[Answer]:
        """Answers by episodes."""
        if not requests:
            return []
        asked = self._asked_episodes(requests)
        keys = [self._key(stop_ids=sorted(self._stop_ids), **episode.content) for episode in asked]
        found = self._found(keys)
        missing: dict[EpisodeSettings, dict[str, AskedEpisode]] = {}  # by settings: what is played together
        for key, episode in zip(keys, asked, strict=True):
            if key not in found:
                missing.setdefault(episode.settings, {})[key] = episode
        with self._progress("playing", len(found) + sum(map(len, missing.values())), "episode") as bar:
            bar.update(len(found))
            for settings, together in missing.items():
                numbered = list(together)
                for number, ended in played(
                    self.lm,
                    self.tokenizer,
                    self._stop_ids,
                    [(episode.task, episode.seed) for episode in together.values()],
                    settings,
                    max_rows=self._batch_rows,
                    check=self._check,
                ):
                    new = {numbered[number]: kept(ended, self.tokenizer, self._stop_ids)}
                    self._known.put(new)
                    found |= new
                    bar.update()
        answers = [episode.answer(found[key]) for key, episode in zip(keys, asked, strict=True)]
        return [Answer.of(answer, self._think_end) for answer in answers]

    def _asked_episodes(self, requests: Sequence[Instance]) -> list[AskedEpisode]:
        """Equal requests get different seeds."""
        prompts: dict[int, tuple[Task, Tokens]] = {}
        asked_before: Counter[str] = Counter()
        asked = []
        for request in requests:
            prompt, opened = request.args[0], _opens_thinking(request.args[0])
            if id(prompt) not in prompts:
                task = (
                    prompt.task if self._thinking is None else replace(prompt.task, thinking=self._thinking)
                )
                prompts[id(prompt)] = task, tuple(prompt_ids(self.tokenizer, task))
            task, ids = prompts[id(prompt)]
            wanted = self._wanted(request, opened, DEFAULT_MAX_TURNS)
            settings = episode_settings(wanted, self.max_length, request.task_name or "")
            same = content_key([_digest(ids), task.grader, request.args[1]])
            seed = _seed(self._seed, ids, asked_before[same])
            asked_before[same] += 1
            asked.append(AskedEpisode(task, seed, settings, _digest(ids), opened))
        return asked

    def _answer(self, prompt: str, request: Request, kept: Mapping[str, Any]) -> Answer:
        generated = Generated(
            opened=_opens_thinking(prompt),
            temperature=request.sampling.temperature,
            seed=request.sampling.seed,
            **kept,
        )
        return Answer.of(generated, self._think_end)

    def _request_key(self, request: Request) -> str:
        sampling, budget = request.sampling, request.thinking_budget
        return self._key(
            kind="generate",
            prompt=_digest(tuple(request.prompt_ids)),
            max_tokens=request.max_tokens,
            sampling=None
            if sampling.greedy
            else [sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed],
            stop_ids=sorted(request.stop_ids),
            stop=request.stop,
            stop_after=request.stop_after,
            budget=None if budget is None else [budget.tokens, budget.grace],
        )

    def _key(self, **asked: Any) -> str:
        return content_key({"model": self._identity, **asked})


def _as_told(settings: GenerationSettings) -> dict[str, Any]:
    """As results.json has them: `max_turns` only of episodes."""
    return {name: value for name, value in asdict(settings).items() if (name, value) != ("max_turns", None)}


def _opens_thinking(prompt: str) -> bool:
    """The model goes on inside of its thinking."""
    return prompt.rstrip().endswith(THINK_OPEN)


def _seed(base: int, prompt: Sequence[int], number: int) -> int:
    """Of a sampled answer: the same whatever else is asked beside it."""
    return int(content_key([base, number, _digest(tuple(prompt))])[:16], 16)


@lru_cache(1024)
def _digest(tokens: Tokens) -> str:
    """A long prompt stands in many keys."""
    return content_key(tokens)


def _kept(completion: Completion, request: Request) -> dict[str, Any]:
    """What is remembered of a completion: the fields of `Generated` that are not in the request."""
    answer_tokens = completion.answer_tokens
    if request.thinking_budget is None:
        answer_tokens = len(completion.token_ids) - (completion.token_ids[-1] in request.stop_ids)
    return {
        "text": completion.text,
        "cut": completion.finish_reason is FinishReason.LENGTH,
        "thinking_tokens": completion.thinking_tokens,
        "answer_tokens": answer_tokens,
        "forced": any(completion.forced),
    }
