"""Text completions: from a request to prompts, and from updates to a response or to its chunks."""

from typing import Any

from model.inference.generation import Request, Update
from stages.serve.protocol.completions import CompletionRequest, Prompt
from stages.serve.served import Chunk, Envelope, Served, usage
from stages.serve.tokens import TextLogprobs


class CompletionCall:
    """`POST /v1/completions`: for each prompt, in order, `n` texts."""

    def __init__(self, served: Served, body: CompletionRequest) -> None:
        served.check(body, len(body.prompt))
        self._body = body
        self._prompt_tokens = 0
        self.requests: list[Request] = []
        self._choices: list[_Choice] = []
        for prompt in body.prompt:
            ids = served.encoder.encode([prompt])[0] if isinstance(prompt, str) else prompt
            max_tokens = served.answer_tokens(len(ids), body.max_tokens)
            self.requests += served.requests(
                body,
                ids,
                max(max_tokens, 1),  # of max_tokens 0 the one token is not shown
                stop_ids=served.text_stop_ids,
                prompt_logprobs=body.echo and body.logprobs is not None,
                top_logprobs=body.logprobs or 0,
                thinking_budget=served.budget(body),
            )
            self._prompt_tokens += len(ids)
            for _ in range(body.n):
                self._choices.append(_Choice(served, body, len(self._choices), prompt, ids))
        self._envelope = Envelope("cmpl", "text_completion", served.name)

    def opening(self) -> list[Chunk]:
        return []

    def take(self, number: int, update: Update) -> list[Chunk]:
        choice = self._choices[number]
        text = choice.take(update)
        if not text and choice.finish_reason is None:
            return []
        return [self._envelope.around([choice.shown(text, choice.logprobs and choice.logprobs.since_last())])]

    def closing(self) -> list[Chunk]:
        return (
            [self._envelope.around([], usage=self._usage())]
            if self._body.stream_options.include_usage
            else []
        )

    def response(self) -> Chunk:
        choices = [
            choice.shown(choice.text, choice.logprobs and choice.logprobs.all()) for choice in self._choices
        ]
        return self._envelope.around(choices, usage=self._usage())

    def _usage(self) -> Chunk:
        return usage(self._prompt_tokens, (choice.tokens for choice in self._choices))


class _Choice:
    """One text as it grows."""

    def __init__(
        self, served: Served, body: CompletionRequest, index: int, prompt: Prompt, prompt_ids: list[int]
    ) -> None:
        self._index = index
        self._shows_answer = body.max_tokens > 0
        self._prompt_ids = prompt_ids
        self._echo = ""
        self._added = ""  # what the tokenizer puts before a text, which is no part of it
        self._texts = served.texts
        if body.echo:
            written = served.tokenizer.decode(prompt_ids, skip_special_tokens=False)
            self._echo = prompt if isinstance(prompt, str) else written
            prefix = served.texts.text(prompt_ids[0]) if prompt_ids else ""
            if (
                isinstance(prompt, str)
                and not prompt.startswith(prefix)
                and prompt_ids[0] == served.encoder.prefix_id
            ):
                self._added = prefix
        self._stream = served.texts.stream(special=False)
        self._offset = len(self._echo)
        self._begun = False
        self.logprobs = None if body.logprobs is None else TextLogprobs(served.texts)
        self.text = ""
        self.tokens = 0
        self.finish_reason: str | None = None

    def take(self, update: Update) -> str:
        """The text that can now be shown."""
        text = "" if self._begun else self._echo
        self._begun = True
        if self.logprobs is not None and update.prompt_logprobs is not None:
            self._score_prompt(self.logprobs, update)
        if self._shows_answer:
            text += update.text
            self.tokens += 1
            if self.logprobs is not None:
                self.logprobs.add(update.token_id, update.logprob, update.top_logprobs, self._offset)
                self._offset += len(self._stream.push(update.token_id))
        if update.completion is not None:
            reason = update.completion.finish_reason if self._shows_answer else "length"
            self.finish_reason = str(reason)
        self.text += text
        return text

    def shown(self, text: str, logprobs: Any) -> Chunk:
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}

    def _score_prompt(self, logprobs: TextLogprobs, update: Update) -> None:
        stream = self._texts.stream(special=True)
        offset = -len(self._added)
        scores = zip(
            self._prompt_ids, update.prompt_logprobs or (), update.prompt_top_logprobs or (), strict=True
        )
        for token_id, logprob, likely in scores:
            logprobs.add(token_id, logprob, likely, max(0, offset))
            offset += len(stream.push(token_id))
