"""A sample as tokens with the mask of what is trained, and every reason to refuse it.

Training must show the model each of its turns behind exactly the tokens that serving would have given it, train all of
the turn and its stop token, and nothing else. All of this is checked on every sample; what a template does to texts is
checked once, on a conversation of marked words (`template_check`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evals.chat_lines import ChatSample
from model.chat.episodes import Thinking, episodes_of, thinking_of
from model.chat.messages import Message
from model.chat.template import TEMPLATE_REMEDY, EncodedChat, encode, render
from model.errors import ArtifactError
from stages.common.data.chat.tokenizer import ChatTokenizer

Episodes = Literal["each", "last"]

_DATA_REMEDY = "repair or remove the line"


@dataclass(frozen=True)
class EncodedSample:
    """`ids` int32 and `mask` int8 of one length; the mask is 1 on tokens that are trained as targets."""

    ids: NDArray[np.int32]
    mask: NDArray[np.int8]
    place: str


@dataclass(frozen=True)
class Examined:
    """A sample as far as it could be encoded, and why training refuses it: None if it does not."""

    sample: EncodedSample
    problem: ArtifactError | None

    @classmethod
    def nothing(cls, place: str, problem: ArtifactError) -> "Examined":
        """A sample that gives no tokens at all."""
        return cls(EncodedSample(np.zeros(0, np.int32), np.zeros(0, np.int8), place), problem)


def encode_sample(
    tokenizer: ChatTokenizer, sample: ChatSample, episodes: Episodes = "each"
) -> list[EncodedSample]:
    """The sample as one or more documents of tokens.

    A chat gives one for each of its episodes, or only for the last: the messages up to the episode's end, with the loss
    on its assistant turns, since older turns do not stand as they were generated (docs/chat.md). Plain text is
    `<s>` prompt completion `</s>` with the loss on completion and `</s>`.

    Raises:
        ArtifactError: training on it would teach something wrong; `examine_sample` shows the tokens all the same.
    """
    examined = examine_sample(tokenizer, sample, episodes)
    for item in examined:
        if item.problem is not None:
            raise item.problem
    return [item.sample for item in examined]


def examine_sample(
    tokenizer: ChatTokenizer, sample: ChatSample, episodes: Episodes = "each"
) -> list[Examined]:
    """The documents of `encode_sample`, those that it refuses with the reason."""
    if sample.is_text:
        return [_examine_text(tokenizer, sample)]
    return [_examine_episode(tokenizer, sample, episode) for episode in episodes_to_train(sample, episodes)]


@dataclass(frozen=True)
class Episode:
    """An episode of a chat, with the messages before it.

    trained: positions of the assistant turns that are trained.
    """

    messages: list[Message]
    trained: list[int]
    thinking: Thinking
    place: str


def episodes_to_train(sample: ChatSample, episodes: Episodes) -> list[Episode]:
    """The episodes of a chat that have something to train on, and the last in any case; or the last alone."""
    messages = sample.conversation
    spans = episodes_of(messages)
    found = []
    for number, span in enumerate(spans, start=1):
        trained = sample.trained_turns(span)
        if not trained and number < len(spans):
            continue
        thinking = thinking_of(sample.thinking, messages[: span.stop], trained)
        place = sample.place if len(spans) == 1 else f"{sample.place} episode {number}"
        found.append(Episode(messages[: span.stop], trained, thinking, place))
    return found if episodes == "each" else found[-1:]


def _examine_episode(tokenizer: ChatTokenizer, sample: ChatSample, episode: Episode) -> Examined:
    messages, place = episode.messages, episode.place
    if not episode.trained:
        return _refused(place, "has no assistant turn to train on", _DATA_REMEDY)
    conversation = Conversation(
        [message.for_template() for message in messages], sample.tools, episode.thinking.told
    )
    examined = examine_conversation(tokenizer, conversation, episode.trained, place)
    if examined.problem is None:
        for index in episode.trained:
            if messages[index].is_empty:
                what = f"message {index + 1}: the assistant's turn has neither an answer nor a tool call"
                return Examined(examined.sample, _problem(what, place, _DATA_REMEDY))
        if messages[-1].role != "assistant":
            what = f"ends with a {messages[-1].role} message that no assistant turn answers"
            return Examined(examined.sample, _problem(what, place, _DATA_REMEDY))
    return examined


@dataclass(frozen=True)
class Conversation:
    """What the template takes."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    thinking: bool | None

    def encode(self, tokenizer: ChatTokenizer) -> EncodedChat:
        return encode(tokenizer.chat, self.messages, tools=self.tools, thinking=self.thinking)

    def unmasked(self, tokenizer: ChatTokenizer, place: str) -> EncodedSample:
        """What can be shown of a conversation of which no mask can be made."""
        try:
            text = render(tokenizer.chat, self.messages, tools=self.tools, thinking=self.thinking)
        except ArtifactError:
            text = ""
        ids = np.array(tokenizer.chat(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
        return EncodedSample(ids, np.zeros(len(ids), np.int8), place)

    def prompt(self, tokenizer: ChatTokenizer, index: int) -> list[int]:
        """What serving gives the model before its turn `index`."""
        return encode(
            tokenizer.chat,
            self.messages[:index],
            tools=self.tools,
            thinking=self.thinking,
            add_generation_prompt=True,
        ).ids


def examine_conversation(
    tokenizer: ChatTokenizer, conversation: Conversation, trained: Sequence[int], place: str
) -> Examined:
    """The tokens of a conversation whose messages `trained` are trained, with the first problem of the template."""
    try:
        encoded = conversation.encode(tokenizer)
    except ArtifactError as error:
        return Examined(conversation.unmasked(tokenizer, place), _problem(error.what, place, error.remedy))
    mask = np.zeros(len(encoded.ids), dtype=np.int8)
    problem = _whole_mask_problem(encoded, place)
    for index in trained:
        if problem is not None:
            break
        problem = _mark_turn(tokenizer, conversation, encoded, index, mask, place)
    if problem is None:
        problem = _stray_problem(tokenizer, encoded, mask, place)
    return Examined(EncodedSample(np.array(encoded.ids, dtype=np.int32), mask, place), problem)


def _whole_mask_problem(encoded: EncodedChat, place: str) -> ArtifactError | None:
    if all(encoded.assistant_mask):
        return _problem("the chat template marks every token as the assistant's (a mask of all ones)", place)
    if not any(encoded.assistant_mask):
        return _problem("the chat template marks no token as the assistant's (a mask of all zeros)", place)
    return None


def _mark_turn(
    tokenizer: ChatTokenizer,
    conversation: Conversation,
    encoded: EncodedChat,
    index: int,
    mask: NDArray[np.int8],
    place: str,
) -> ArtifactError | None:
    """Sets the mask of one turn, from the end of its prompt to its stop token; or says what is wrong with it."""
    turn = f"message {index + 1}"
    if index == 0:
        return _problem(f"{turn}: nothing stands before the assistant's turn", place, _DATA_REMEDY)
    try:
        prompt = conversation.prompt(tokenizer, index)
    except ArtifactError as error:
        return _problem(f"{turn}: its prompt cannot be rendered ({error.what})", place, error.remedy)
    ids, marked = encoded.ids, encoded.assistant_mask
    if ids[: len(prompt)] != prompt:
        return _drift_problem(tokenizer, ids, prompt, turn, place)
    start = end = len(prompt)
    while end < len(ids) and marked[end]:
        end += 1
    stops = [position for position in range(start, end) if ids[position] == tokenizer.stop_id]
    name = tokenizer.chat.convert_ids_to_tokens(tokenizer.stop_id)
    if marked[start - 1]:
        what = "the mask begins before the turn does, in what is its prompt"
    elif end == start:
        what = "the mask leaves out the beginning of the turn"
    elif not stops:
        following = next((place for place in range(end, len(ids)) if marked[place]), len(ids))
        how = (
            "is left out of the mask" if tokenizer.stop_id in ids[end:following] else "does not end the turn"
        )
        what = f"the stop token {name} {how}, so the model would not learn to stop"
    elif stops[0] != end - 1:
        what = f"the mask goes on behind the stop token {name}"
    else:
        mask[start:end] = 1
        return None
    return _problem(f"{turn}: {what}", place)


def _drift_problem(
    tokenizer: ChatTokenizer, ids: list[int], prompt: list[int], turn: str, place: str
) -> ArtifactError:
    same = next((i for i, (a, b) in enumerate(zip(ids, prompt, strict=False)) if a != b), len(ids))
    in_training, in_serving = (
        repr(tokenizer.chat.decode(tokens[same : same + 12])) for tokens in (ids, prompt)
    )
    return _problem(
        f"{turn}: rendering again changes tokens: from token {same} on training has {in_training}, "
        f"the prompt in serving {in_serving}",
        place,
    )


def _stray_problem(
    tokenizer: ChatTokenizer, encoded: EncodedChat, mask: NDArray[np.int8], place: str
) -> ArtifactError | None:
    """Marks behind the first trained token that belong to no turn."""
    marked = np.array(encoded.assistant_mask)
    first = int(mask.argmax())
    stray = np.flatnonzero(marked[first:] & (mask[first:] == 0))
    if not len(stray):
        return None
    start = first + int(stray[0])
    text = tokenizer.chat.decode(encoded.ids[start : start + 12])
    return _problem(f"the mask covers text that the assistant did not write: {text!r}", place)


def _examine_text(tokenizer: ChatTokenizer, sample: ChatSample) -> Examined:
    """Prompt and completion are encoded apart: in serving the prompt's tokens are there before the completion's."""
    text = tokenizer.text
    prompt, completion = (
        document[1:-1] for document in text.encode_documents([str(sample.prompt), str(sample.completion)])
    )
    ids = np.concatenate([[text.begin_id], prompt, completion, [text.end_id]]).astype(np.int32)
    mask = np.zeros(len(ids), dtype=np.int8)
    mask[1 + len(prompt) :] = 1
    problem = None
    if not len(prompt):
        what = "the prompt is empty, so all tokens would be trained (a mask of all ones)"
        problem = _problem(what, sample.place, "give it a prompt, or pretrain on the text")
    return Examined(EncodedSample(ids, mask, sample.place), problem)


def _refused(place: str, what: str, remedy: str) -> Examined:
    return Examined.nothing(place, _problem(what, place, remedy))


def _problem(what: str, place: str, remedy: str = TEMPLATE_REMEDY) -> ArtifactError:
    return ArtifactError(what, where=place, remedy=remedy)
