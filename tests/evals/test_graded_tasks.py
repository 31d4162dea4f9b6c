"""The tasks whose answers a grader judges, run end to end: right answers score, and wrong ones among them are found."""

import json
from typing import Any

import pytest
from lm_eval import simple_evaluate

from evals.chat_tasks import read_chat_task
from evals.graders.sandbox import confine
from evals.graders.tool_calls import Spec, judge
from evals.tasks import task_manager
from evals.tasks.reader import DATA
from model.chat.parsers import parse
from tests.evals.test_tasks import KnownLM, load, rows

needs_sandbox = pytest.mark.skipif(not confine.available(), reason="needs Linux with seccomp")
CODE = ["nano2_humaneval", "nano2_humaneval_instruct", "nano2_mbpp", "nano2_mbpp_instruct"]


def answered(
    name: str, answer: Any, limit: int | None = None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The scores of a model that answers each of the first `limit` documents with `answer(number, document, reference)`."""
    task = load([name])[name]
    docs = list(task.eval_docs)[:limit]
    answers = {
        task.doc_to_text(doc): answer(number, doc, task.doc_to_target(doc)) for number, doc in enumerate(docs)
    }
    assert len(answers) == len(docs)
    results = simple_evaluate(
        model=KnownLM(answers), tasks=[name], task_manager=task_manager(), bootstrap_iters=0, limit=limit
    )
    return results["results"][name], docs


@needs_sandbox
@pytest.mark.parametrize("limit", [11, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CODE)
def test_code(name: str, limit: int | None) -> None:
    """Every tenth answer is planted: one that runs and gives nothing, one that is no Python."""
    planted = {
        0: "    return None\n"
        if name == "nano2_humaneval"
        else "```python\ndef {entry}(*_): return None\n```",
        10: "I cannot say (",
    }

    def answer(number: int, doc: dict[str, Any], reference: str) -> str:
        wrong = planted.get(number % 20)
        return reference if wrong is None else wrong.format(entry=doc["grader"]["entry_point"])

    scores, docs = answered(name, answer, limit)
    silent, malformed = (sum(number % 20 == turn for number in range(len(docs))) for turn in planted)
    assert scores["acc,none"] == pytest.approx(1 - (silent + malformed) / len(docs))
    assert scores["format,none"] == pytest.approx(1 - malformed / len(docs))
    assert scores["acc,none"] <= scores["tests,none"] < 1


def test_math() -> None:
    """Of every four answers one is without a box and one is wrong."""

    def answer(number: int, doc: dict[str, Any], reference: str) -> str:
        gold = doc["grader"]["answer"]
        return [f"So it is {reference}.", reference, f"The answer is {gold}.", rf"\boxed{{9{gold}}}"][
            number % 4
        ]

    scores, docs = answered("nano2_mathgen", answer)
    wrong = sum(number % 4 == 3 for number in range(len(docs)))
    unboxed = sum(number % 4 == 2 for number in range(len(docs)))
    assert scores["acc,none"] == pytest.approx(1 - wrong / len(docs))
    assert scores["format,none"] == pytest.approx(1 - unboxed / len(docs))


def follow(identifier: str, told: dict[str, Any]) -> str:
    """A text that follows an instruction."""
    count = next((value for value in told.values() if isinstance(value, int)), 0)
    relation = next((value for key, value in told.items() if key.endswith("relation")), "at least")
    count = count if relation == "at least" else 0
    german = {"de": "Das Wetter ist heute sehr schön."}
    texts = {
        "keywords:existence": lambda: " ".join(told["keywords"]),
        "keywords:frequency": lambda: f"a {told['keyword']} " * count or "a",
        "keywords:letter_frequency": lambda: "y" + told["letter"] * count,
        "language:response_language": lambda: german[told["language"]],
        "length_constraints:number_sentences": lambda: "It rained. " * max(count, 1),
        "length_constraints:number_paragraphs": lambda: "\n***\n".join(["a"] * count),
        "length_constraints:number_words": lambda: "a " * max(count, 1),
        "length_constraints:nth_paragraph_first_word": lambda: "\n\n".join(
            [told["first_word"] + " x"] * told["num_paragraphs"]
        ),
        "detectable_content:number_placeholders": lambda: "[a] " * count,
        "detectable_content:postscript": lambda: f"{told['postscript_marker']} a",
        "detectable_format:number_bullet_lists": lambda: "* a\n" * count,
        "detectable_format:constrained_response": lambda: "My answer is no.",
        "detectable_format:number_highlighted_sections": lambda: "*a* " * count,
        "detectable_format:multiple_sections": lambda: f"{told['section_spliter']} 1 a " * count,
        "detectable_format:json_format": lambda: "{}",
        "detectable_format:title": lambda: "<<a>>",
        "combination:two_responses": lambda: "a\n******\nb",
        "combination:repeat_prompt": lambda: told["prompt_to_repeat"] + " a",
        "startend:end_checker": lambda: told["end_phrase"],
        "startend:quotation": lambda: '"a"',
        "change_case:capital_word_frequency": lambda: "A " * count or "a",
        "change_case:english_capital": lambda: "THIS IS A PLAIN ENGLISH SENTENCE ABOUT THE WEATHER",
        "change_case:english_lowercase": lambda: "this is a plain english sentence about the weather",
    }
    return texts.get(identifier, lambda: "x")()


def test_instructions() -> None:
    """Prompts with one instruction are answered rightly, but for every fifth of them; the others with an empty text."""
    single: list[int] = []

    def answer(_: int, doc: dict[str, Any], __: str) -> str:
        grader = doc["grader"]
        told = {key: value for key, value in grader["kwargs"][0].items() if value is not None}
        if len(grader["instruction_id_list"]) > 1 or told.get("language", "de") != "de":
            return ""
        single.append(doc["key"])
        return "" if len(single) % 5 == 0 else follow(grader["instruction_id_list"][0], told)

    scores, docs = answered("nano2_ifeval", answer)
    right = len(single) - len(single) // 5
    assert len(single) > 60
    of_all = sum(len(doc["grader"]["instruction_id_list"]) for doc in docs)
    assert scores["prompt_strict,none"] == scores["prompt_loose,none"] == pytest.approx(right / len(docs))
    assert (
        scores["instruction_strict,none"] == scores["instruction_loose,none"] == pytest.approx(right / of_all)
    )


class TestCalls:
    TASK = read_chat_task(DATA / "bfcl.chat.jsonl")

    @staticmethod
    def calls(doc: dict[str, Any]) -> list[dict[str, Any]]:
        """Calls that are accepted: each argument's first value that is no mark of one that may be left out."""

        def first(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: first(choice(options)) for key, options in value.items() if choice(options) != ""
                }
            return [first(item) for item in value] if isinstance(value, list) else value

        def choice(options: Any) -> Any:
            return next((one for one in options if one != ""), "") if isinstance(options, list) else options

        return [
            {"name": name, "arguments": first(arguments)}
            for entry in doc["grader"]["accepted"]
            for name, arguments in entry.items()
        ]

    def score(self, doc: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, float]:
        text = f"<TOOLCALL>{json.dumps(calls)}</TOOLCALL>" if calls else "None of the tools can do that."
        return self.TASK.process_results(doc, [text])

    def test_the_right_calls(self) -> None:
        for doc in self.TASK.test_docs():
            assert self.score(doc, self.calls(doc))["acc"] == 1.0, doc["id"]

    def test_planted_wrong_calls(self) -> None:
        categories = set()
        for doc in self.TASK.test_docs():
            categories.add(doc["metadata"]["category"])
            right = self.calls(doc)
            name = doc["tools"][0]["function"]["name"]
            if not right:
                assert self.score(doc, [{"name": name, "arguments": {}}])["acc"] == 0.0
                continue
            assert self.score(doc, [])["acc"] == 0.0
            assert self.score(doc, right[:-1])["acc"] == 0.0
            assert self.score(doc, [*right, right[0]])["acc"] == 0.0
            assert self.score(doc, [*right[:-1], {**right[-1], "name": "other"}])["acc"] == 0.0
            more = {**right[-1], "arguments": {**right[-1]["arguments"], "unheard_of": 1}}
            assert self.score(doc, [*right[:-1], more]) == {
                "acc": 0.0,
                "score": 0.0,
                "score_format": 1.0,
                "score_name": 1.0,
                "score_arguments": pytest.approx(1 - 1 / len(right)),
            }
        assert len(categories) == 9

    def test_malformed_calls(self) -> None:
        for doc in self.TASK.test_docs()[:20]:
            spec = Spec.read(doc["grader"])
            text = f"<TOOLCALL>{json.dumps(self.calls(doc))}"
            assert judge(spec, parse(text)).parts["format"] == 0.0

    def test_tools_reach_the_prompt_in_the_form_of_json_schema(self) -> None:
        def types(schema: Any) -> list[Any]:
            if isinstance(schema, list):
                return [kind for item in schema for kind in types(item)]
            if not isinstance(schema, dict):
                return []
            own = [schema["type"]] if isinstance(schema.get("type"), str) else []
            return own + [kind for item in schema.values() for kind in types(item)]

        for line in rows("bfcl.chat"):
            for tool in line["tools"]:
                assert tool["type"] == "function"
                known = {"object", "array", "string", "integer", "number", "boolean"}
                assert set(types(tool["function"]["parameters"])) <= known
