"""A file of chats with graders as a task of lm-eval: one jsonl, nothing else to write.

    {"messages": [...], "tools": [...], "thinking": true, "id": "...", "grader": {"name": "math", "answer": "3/4"}}

The assistant's last turn, if the conversation ends in one, is the reference: it is hidden, and the model is asked in its
place, through its chat template, with the system message, the tools and the history as they stand. The grader judges what
it generates (evals/graders).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from evals.answers import Answer, Outcome, grade_answer
from evals.graders.grade import validate_spec
from model.errors import ArtifactError, Nano2Error, UsageError

SUFFIXES = (".jsonl", ".jsonl.gz")
DEFAULT_MAX_TOKENS = 1024

_KEYS = {"messages", "prompt", "completion", "tools", "thinking", "id", "grader", "metadata"}

Doc = dict[str, Any]


class ChatTask(Task):
    """Metrics: `acc`, the share of items with full marks, of answers that ended and are well-formed; `score`, the mean of
    the grader's scores whatever the form; and `score_PART` for each part that the grader tells of.

    docs: the objects of the lines. place: the file, for messages.
    """

    VERSION = 1
    OUTPUT_TYPE = "generate_until"

    def __init__(
        self, name: str, docs: Sequence[Doc], place: str
    ) -> None:  # lm-eval's own would download a data set
        self._docs = list(docs)
        self._place = place
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
        return json.dumps(_asked(doc), ensure_ascii=False)

    def doc_to_target(self, doc: Doc) -> str:
        """The reference: the text of the hidden turn, or its tool calls; empty without one."""
        turn = _reference(doc)
        return str(
            turn.get("content") or json.dumps(turn.get("tool_calls") or "", ensure_ascii=False).strip('"')
        )

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
        wanted = {key: doc[key] for key in ("tools", "thinking") if doc.get(key) is not None}
        try:
            return chat_template(_asked(doc), add_generation_prompt=True, **wanted)
        except Nano2Error as error:
            line = self._docs.index(doc) + 1
            raise ArtifactError(
                error.what, where=f"{self._place} line {line}", remedy=error.remedy
            ) from error

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


def read_chat_task(path: Path, name: str = "") -> ChatTask:
    """The task of a file, named as the file if not otherwise. ArtifactError names the line that is not what it should be."""
    name = name or path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".chat")
    return ChatTask(name, [_doc(line, f"{path} line {number}") for number, line in _lines(path)], str(path))


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"cannot be read ({error})", where=str(path), remedy="give a file of chats"
        ) from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ArtifactError("has no chat in it", where=str(path), remedy="give a file with one chat a line")
    return lines


def _doc(line: str, where: str) -> Doc:
    try:
        doc = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"is no JSON ({error})", where) from error
    if not isinstance(doc, dict):
        raise _refusal("is no JSON object", where)
    if unknown := sorted(doc.keys() - _KEYS):
        raise _refusal(f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}", where)
    for key in ("messages", "prompt", "completion", "tools"):
        value = doc.get(key)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(item, dict) for item in value)
        ):
            raise _refusal(f"its {key} are no list of objects, as those of a chat are", where)
    if not isinstance(doc.get("thinking"), bool | None):
        raise _refusal("its thinking is neither true nor false", where)
    if not _asked(doc) or _asked(doc)[-1].get("role") not in ("user", "tool"):
        raise _refusal("has no message of a user or a tool that the assistant is to answer", where)
    if doc.get("grader") is None:
        raise _refusal("has no grader, so no answer can be judged", where)
    try:
        validate_spec(doc["grader"])
    except Nano2Error as error:
        raise ArtifactError(f"its grader: {error.what}", where=where, remedy=error.remedy) from error
    return doc


def _conversation(doc: Mapping[str, Any]) -> list[Doc]:
    return doc.get("messages") or [*(doc.get("prompt") or ()), *(doc.get("completion") or ())]


def _asked(doc: Mapping[str, Any]) -> list[Doc]:
    """The messages up to the hidden turn."""
    if doc.get("messages") is None and doc.get("prompt") is not None:
        return list(doc["prompt"])
    messages = _conversation(doc)
    return messages[:-1] if messages and messages[-1].get("role") == "assistant" else messages


def _reference(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    rest = _conversation(doc)[len(_asked(doc)) :]
    return rest[-1] if rest else {}


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _refusal(what: str, where: str) -> ArtifactError:
    return ArtifactError(what, where=where, remedy="correct the line; docs/eval.md says what it has to hold")
