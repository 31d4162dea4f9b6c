"""A file of chats with graders as a task of lm-eval: one jsonl, nothing else to write.

    {"messages": [...], "tools": [...], "thinking": true, "id": "...", "grader": {"name": "math", "answer": "3/4"}}

The assistant's last turn, if the conversation ends in one, is the reference: it is hidden, and the model is asked in its
place, through its chat template, with the system message, the tools and the history as they stand, and thinking as training
on that turn would have it. The grader judges what it generates (evals/graders). Where the grader has an environment, all
behind the last user message is hidden, and the model plays an episode (evals/episodes).
"""

import json
import os
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from evals.answers import Answer, Outcome, grade_answer
from evals.chat_lines import parse_sample
from evals.episodes.task import Task as EpisodeTask
from evals.episodes.task import TaskPrompt, has_environment, refusal, shown_part
from model.errors import ArtifactError, Nano2Error, UsageError
from model.text_lines import json_lines

DEFAULT_MAX_TOKENS = 1024

Doc = dict[str, Any]


class ChatTask(Task):
    """Metrics: `acc`, the share of items with full marks, of answers that ended and are well-formed; `score`, the mean of
    the grader's scores whatever the form; and `score_PART` for each part that the grader tells of.

    lines: the object of each line, which is its document, and its place, for messages.
    """

    VERSION = 1
    OUTPUT_TYPE = "generate_until"

    def __init__(
        self, name: str, lines: Sequence[tuple[Doc, str]]
    ) -> None:  # lm-eval's own would download a data set
        self._docs = [doc for doc, _ in lines]
        self._places = [place for _, place in lines]
        metrics = [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "score")
        ]
        self._config = TaskConfig(
            task=name,
            test_split="test",
            num_fewshot=0,
            generation_kwargs={"until": [], "max_gen_toks": DEFAULT_MAX_TOKENS},
            metric_list=metrics,
            metadata={"version": self.VERSION},
        )
        self._filters = [build_filter_ensemble("none", [("take_first", None)])]
        self._instances: list[Instance] | None = None
        self._aggregation_list = {"acc": mean, "score": mean}
        self._higher_is_better = {"acc": True, "score": True}

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[Doc]:
        return self._docs

    def doc_to_text(self, doc: Doc) -> str:
        return json.dumps(_Question.of(doc).messages, ensure_ascii=False)

    def doc_to_target(self, doc: Doc) -> str:
        """The reference: the text of the hidden turn, or its tool calls; empty without one."""
        return _Question.of(doc).reference

    def fewshot_context(
        self,
        doc: Doc,
        num_fewshot: int,  # noqa: ARG002
        system_instruction: str | None = None,  # noqa: ARG002
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,  # noqa: ARG002
        chat_template: Callable[..., str] | None = None,
        gen_prefix: str | None = None,  # noqa: ARG002
    ) -> str:
        """The prompt: the conversation rendered, open for the assistant's turn."""
        if not (apply_chat_template and chat_template):
            raise UsageError(
                "the task consists of chats, and no chat template is applied",
                where=f"task {self.task_name}",
                remedy="add --apply-chat-template",
            )
        question = _Question.of(doc)
        settings = {"tools": doc.get("tools"), "thinking": question.thinking}
        wanted = {
            name: value
            for name, value in settings.items()
            if value is not None and self._takes(chat_template, name, doc)
        }
        try:
            text = chat_template(question.messages, add_generation_prompt=True, **wanted)
        except Nano2Error as error:
            raise ArtifactError(error.what, where=self._place_of(doc), remedy=error.remedy) from error
        if not has_environment(doc["grader"]):
            return text
        return TaskPrompt.of(text, EpisodeTask.of(parse_sample(doc, self._place_of(doc))))

    def _takes(self, chat_template: Callable[..., str], name: str, doc: Doc) -> bool:
        """Whether a model's template can be told something; those of lm-eval's own models take messages alone. What the
        line itself says must be heard (UsageError), thinking that follows from its hidden turn is then the model's own."""
        parameters = signature(chat_template).parameters
        if name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return True
        if doc.get(name) is None:
            return False
        raise UsageError(
            f"its chat has {name}, which the model's apply_chat_template does not take",
            where=self._place_of(doc),
            remedy="evaluate it with `nano2 eval`, or leave the line out",
        )

    def _place_of(self, doc: Doc) -> str:
        return self._places[self._docs.index(doc)]

    def construct_requests(self, doc: Doc, ctx: str, **settings: Any) -> Instance:
        return Instance(
            "generate_until",
            doc,
            (ctx, dict(self.config.generation_kwargs)),
            idx=0,
            metadata=settings["metadata"],
        )

    def process_results(self, doc: Doc, results: Sequence[str]) -> dict[str, float]:
        answer = results[0]
        verdict = grade_answer(doc["grader"], answer)
        right = verdict.score == 1
        if isinstance(answer, Answer):
            right = answer.generated.outcome(right) is Outcome.RIGHT
        parts = {f"score_{name}": part for name, part in verdict.parts.items()}
        for name in parts:
            self._aggregation_list.setdefault(name, mean)
            self._higher_is_better.setdefault(name, True)
        return {"acc": float(right), "score": verdict.score, **parts}

    def aggregation(self) -> dict[str, Callable[..., float]]:
        return self._aggregation_list

    def higher_is_better(self) -> dict[str, bool]:
        return self._higher_is_better


def chat_task_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its own without endings. Where others have it too, as many of the folders above it are named as
    tell it apart (`a/test`, `b/test`). Files of one folder that differ in their endings alone have one name."""
    parts = {path: (*Path(os.path.abspath(path)).parent.parts, _bare_name(path)) for path in paths}
    return {path: _told_apart(own, {*parts.values()} - {own}) for path, own in parts.items()}


def _told_apart(own: tuple[str, ...], others: Set[tuple[str, ...]]) -> str:
    depth = next(
        depth for depth in range(1, len(own) + 1) if own[-depth:] not in {each[-depth:] for each in others}
    )
    return str(Path(*own[-depth:]))


def _bare_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".chat")


def read_chat_task(path: Path, name: str = "") -> ChatTask:
    """The task of a file, named as the file if not otherwise. ArtifactError names the line that is not what it should be."""
    name = name or _bare_name(path)
    lines = list(json_lines(path))
    if not lines:
        raise ArtifactError("has no chat in it", where=str(path), remedy="give a file with one chat a line")
    for row, place in lines:
        _Question.of(row, place)
    return ChatTask(name, lines)


@dataclass(frozen=True)
class _Question:
    """What is asked of a line: `evals.episodes.task.shown_part` says what is hidden.

    messages: those that are shown, as they stand in the line, since another template may look at what ours does not.
    reference: the text of the hidden messages' last, or the calls of all of them; empty without one. thinking: what the
    template is told, the same as in training on what is hidden; None leaves it to the switches, and to the template where
    nothing is.
    """

    messages: list[Doc]
    reference: str
    thinking: bool | None

    @classmethod
    def of(cls, doc: Doc, place: str = "") -> "_Question":
        """ArtifactError if the line is no chat, or none that can be asked and judged."""
        sample = parse_sample(doc, place)
        shown, thinking = shown_part(sample)
        if sample.grader is None:
            raise refusal("has no grader, so no answer can be judged", place)
        said = doc["messages"] if sample.messages else [*doc["prompt"], *(doc.get("completion") or ())]
        calls = [call for message in said[shown:] for call in message.get("tool_calls") or ()]
        text = sample.conversation[-1].text if shown < len(said) else ""
        environment = has_environment(sample.grader)
        if calls and (environment or not text):
            text = json.dumps(calls, ensure_ascii=False)
        return cls(said[:shown], text, thinking)
