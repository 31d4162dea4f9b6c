"""This core as a model of lm-eval: the same requests give the numbers that lm-eval's own `hf` backend gives.

    lm = HybridEvalLM.from_artifact(Path("artifacts/base"))
    simple_evaluate(model=lm, tasks=["nano2_arc_easy"], task_manager=task_manager())

What becomes which tokens (evals/encoding.py) follows that backend; what is faster is in `model.inference`. Three
differences are meant, all for chat models: a rendered chat gets no begin-of-text token on top, a stop string inside the
thinking does not end the answer, and thinking that never ended is no answer, where `hf` would score the thoughts.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.encoding import RequestEncoder
from evals.generation_settings import GenerationSettings
from model.chat.special_tokens import THINK_OPEN
from model.chat.template import render
from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from model.inference.scoring import Score, score_continuations
from model.inference.stopping import stop_token_ids
from model.loading import load
from model.tokenizer import load_tokenizer


class _Bar(Protocol):
    def update(self, advance: int = 1) -> None: ...


class _NoBar:
    def update(self, advance: int = 1) -> None:
        pass


Progress = Callable[[str, int, str], AbstractContextManager[_Bar]]
"""Makes a progress bar from a title, a total and a unit."""

TokenRequest = tuple[tuple[str, str] | None, Sequence[int], Sequence[int]]
"""lm-eval's: the texts, the context's tokens, the continuation's tokens."""


class HybridEvalLM(TemplateLM):
    """Answers lm-eval's three kinds of requests.

    max_length: tokens of context and continuation together; what is longer loses its beginning. None: the
    `max_position_embeddings` of the config, as `hf` takes it. The model has no position encoding, so more is possible.
    batch_tokens: tokens that are read at a time. batch_rows: requests that are generated for at a time.
    chat: the requests are rendered chats, which have all their control tokens.
    think_end: the text that ends the thinking of a reasoning model; None if answers hold no thinking.
    thinking: what the chat template is told; None leaves it to the messages.
    stop_ids: tokens that end a generated text. seed: of the first sampled request; the n-th takes seed + n.
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
        seed: int = 0,
        progress: Progress = lambda _title, _total, _unit: nullcontext(_NoBar()),
        warn: Callable[[str], None] = lambda _message: None,
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
        self._seed = seed
        self._progress = progress
        self._warn = warn

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

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._encoder.encode([string], add_special_tokens)[0]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text, open for the assistant's answer or for the rest of its last message."""
        return render(
            self.tokenizer,
            chat_history,
            thinking=self._thinking,
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
        scored = [index for index, (_, continuation) in enumerate(pairs) if continuation]
        scores = [Score(0.0, True)] * len(pairs)  # of a continuation without tokens
        with self._progress("scoring", len(scored), "request") as bar:
            answers = score_continuations(
                self.lm,
                [pairs[index] for index in scored],
                batch_tokens=self._batch_tokens,
                on_scored=bar.update,
            )
        for index, answer in zip(scored, answers, strict=True):
            scores[index] = answer
        return [(score.logprob, score.greedy) for score in scores]

    def _fitted(
        self, context: Sequence[int], continuation: Sequence[int]
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Context and continuation without what is too much at the beginning; the last token is only predicted."""
        if len(continuation) > self.max_length:
            raise ArtifactError(
                f"a continuation to be scored has {len(continuation)} tokens, the model reads {self.max_length}",
                where="task data",
                remedy="give a larger --max-length",
            )
        kept = self.max_length + 1 - len(continuation)
        return context[-kept:], continuation

    def generate_until(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[str]:
        """For each (context, settings) the generated text, thinking and everything from a stop string on removed."""
        settings = [GenerationSettings.of(request.args[1], request.task_name) for request in requests]
        prompts = self._encoder.encode([request.args[0] for request in requests])
        for request, wanted in zip(requests, settings, strict=True):
            if wanted.max_tokens >= self.max_length:
                raise UsageError(
                    f"the task asks for {wanted.max_tokens} new tokens; with its prompt the model reads {self.max_length}",
                    where=request.task_name or "",
                    remedy="give a larger --max-length, or fewer tokens with --gen max_gen_toks=N",
                )
        longest_first = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        generator = Generator(self.lm, self.tokenizer, max_rows=self._batch_rows)
        numbers: dict[int, int] = {}
        for index in longest_first:
            prompt = prompts[index][-(self.max_length - settings[index].max_tokens) :]
            request = self._request(requests[index].args[0], prompt, settings[index], self._seed + index)
            numbers[generator.add(request)] = index
        texts = [""] * len(requests)
        with self._progress("generating", len(requests), "request") as bar:
            while generator.busy:
                for update in generator.step():
                    if update.completion is not None:
                        texts[numbers[update.request]] = update.completion.text
                        bar.update(1)
        return [self._answer(request.args[0], text) for request, text in zip(requests, texts, strict=True)]

    def _request(self, text: str, prompt: list[int], settings: GenerationSettings, seed: int) -> Request:
        """A stop string that is a special token, and so never part of a text, stops by its id."""
        special = set(self.tokenizer.all_special_tokens)
        ids = self.tokenizer.convert_tokens_to_ids([stop for stop in settings.stop if stop in special])
        return Request(
            prompt,
            settings.max_tokens,
            settings.sampling(seed),
            self._stop_ids | set(ids),
            tuple(stop for stop in settings.stop if stop not in special),
            stop_after=self._think_end if self._think_end and _opens_thinking(text) else "",
        )

    def _answer(self, prompt: str, text: str) -> str:
        """A generated text without its thinking."""
        if not self._think_end:
            return text
        _, ended, answer = text.rpartition(self._think_end)
        return "" if not ended and _opens_thinking(prompt) else answer.lstrip() if ended else text


def _opens_thinking(prompt: str) -> bool:
    """The model goes on inside of its thinking."""
    return prompt.rstrip().endswith(THINK_OPEN)
