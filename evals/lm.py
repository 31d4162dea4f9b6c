"""This core as a model of lm-eval: the same requests give the numbers that lm-eval's own `hf` backend gives.

    lm = HybridEvalLM.from_artifact(Path("artifacts/base"))
    simple_evaluate(model=lm, tasks=["nano2_arc_easy"], task_manager=task_manager())

What becomes which tokens (evals/encoding.py) follows that backend; what is faster is in `model.inference`. Three
differences are meant, all for chat models: a rendered chat gets no begin-of-text token on top, a stop string inside the
thinking does not end the answer, and thinking that never ended is no answer, where `hf` would score the thoughts.

A request whose prompt is a `TaskPrompt` is answered by an episode, its tools run in the environment of its grader.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.callbacks import Callbacks
from evals.encoding import RequestEncoder
from evals.episodes.answering import played_answers
from evals.episodes.task import TaskPrompt
from evals.generating import generated_answers
from evals.remembered import Remembered
from evals.request_settings import RequestSettings
from evals.respondent import Respondent
from evals.response_cache import ResponseCache
from evals.scoring import Scorer
from model.chat.template import ends_in_thinking, render
from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.stopping import stop_token_ids
from model.loading import load
from model.tokenizer import load_tokenizer

Tokens = Sequence[int]


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
    request and decides the answer).
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
        callbacks: Callbacks = Callbacks(),
    ) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.max_length = max_length or lm.config.max_position_embeddings
        self._encoder = RequestEncoder(tokenizer, chat=chat)
        self._think_end = think_end
        self._thinking = thinking
        self._warn = callbacks.warn
        self._settings = RequestSettings(self.max_length, thinking_sampling)
        remembered = Remembered(f"{identity} {lm.activation_dtype}", cache)
        self._scorer = Scorer(lm, self.max_length, batch_tokens, remembered, callbacks)
        self._respondent = Respondent(
            lm=lm,
            tokenizer=tokenizer,
            stop_ids=stop_ids,
            max_length=self.max_length,
            batch_rows=batch_rows,
            think_end=think_end,
            seed=seed,
            settings=self._settings,
            remembered=remembered,
            callbacks=callbacks,
        )

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
        return self._settings.by_task()

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
        inside = sum(ends_in_thinking(context) for context, _ in texts) if self._think_end else 0
        if inside:
            self._warn(
                f"{inside} of {len(texts)} requests are scored inside of the thinking; --no-thinking closes it before"
            )
        return self._scorer.scores(self._encoder.encode_pairs(texts))

    def loglikelihood_rolling(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[float]:
        """The log-probability of each whole text, read in windows of `max_length` tokens."""
        texts = self._encoder.encode([request.args[0] for request in requests])
        windows: list[tuple[Tokens, Tokens]] = []
        owners: list[int] = []
        for owner, tokens in enumerate(texts):
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1):
                windows.append(make_disjoint_window(window))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._scorer.scores(windows), strict=True):
            totals[owner] += logprob
        return totals

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str] | None, Tokens, Tokens]], **_: Any
    ) -> list[tuple[float, bool]]:
        """lm-eval's base class wants it: the texts, the context's tokens, the continuation's tokens."""
        return self._scorer.scores([(context, continuation) for _, context, continuation in requests])

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
        of_texts = iter(generated_answers(self._respondent, self._encoder, texts))
        of_tasks = iter(played_answers(self._respondent, tasks, self._thinking) if tasks else ())
        return [next(of_tasks if isinstance(each.args[0], TaskPrompt) else of_texts) for each in requests]
