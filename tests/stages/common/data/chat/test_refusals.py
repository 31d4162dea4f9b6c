"""Broken templates and broken samples: each is refused in words that say what is wrong and what to do."""

import re
from collections.abc import Callable

import pytest

from evals.chat_lines import parse_sample
from model.chat.template import read_template
from model.errors import ArtifactError
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from tests.model.chat.builders import assistant, call, calls, result, user

OPEN, CLOSE = "{%- generation -%}", "{%- endgeneration -%}"
STOP = "{{- '\\n<SPECIAL_12>' -}}"
PREFILL = "{{- '<think>\\n' if thinking else '<think></think>' if in_episode -}}"
ANSWER = "{{- '</think>' ~ ('\\n\\n' ~ answer if answer) -}}"
REASONING = "{{- reasoning | trim ~ '\\n' if reasoning is string and reasoning | trim -}}"


def edited(*edits: tuple[str, str]) -> str:
    """The template with each first text replaced by the second."""
    template = read_template()
    for old, new in edits:
        assert template.count(old) >= 1, old
        template = template.replace(old, new)
    return template


BROKEN_TEMPLATES = {
    "no markers": (edited((OPEN, ""), (CLOSE, "")), "no {% generation %} markers"),
    "everything marked": (
        "{% generation %}{% for m in messages %}{{ m.content }}\n<SPECIAL_12>\n{% endfor %}{% endgeneration %}",
        "marks every token as the assistant's (a mask of all ones)",
    ),
    "nothing marked": (edited((OPEN, OPEN + CLOSE), (STOP + "\n    " + CLOSE, STOP)), "(a mask of all zeros)"),
    "stop token not marked": (
        edited((STOP + "\n    " + CLOSE, CLOSE + STOP)),
        "message 5: the stop token <SPECIAL_12> is left out of the mask, so the model would not learn to stop",
    ),
    "no stop token": (edited((STOP, "")), "the stop token <SPECIAL_12> does not end the turn"),
    "marked past the stop token": (
        edited((CLOSE + "\n    {{- '\\n' -}}", "{{- '\\n' -}}" + CLOSE)),
        "the mask goes on behind the stop token <SPECIAL_12>",
    ),
    "prefill marked": (
        edited((PREFILL + "\n    " + OPEN, OPEN + PREFILL)),
        "message 5: the mask begins before the turn does",
    ),
    "reasoning not marked": (
        edited(
            ("{%- elif thinking -%}\n        " + REASONING, "{%- elif thinking -%}"),
            (OPEN, "{%- if thinking and not raw -%}" + REASONING + "{%- endif -%}" + OPEN),
        ),
        "message 5: the mask leaves out the beginning of the turn",
    ),
    "reasoning of earlier turns dropped": (
        edited(("set in_episode = loop.index0 > ns.last_user", "set in_episode = loop.last")),
        "message 5: rendering again changes tokens: from token",
    ),
    "prompt without its prefill": (
        edited(
            ("(ns.switch if override is none else override) else '<think></think>' -}}\n{%- endif", "false -}}{%- endif")
        ),
        "message 5: the mask leaves out the beginning of the turn",
    ),
    "answer twice": (
        edited(("('\\n\\n' ~ answer if answer)", "('\\n\\n' ~ answer ~ answer if answer)")),
        "writes the assistant's answer 2 times",
    ),
    "answer twice without thinking": (
        edited(("{{- answer -}}", "{{- answer ~ answer -}}")),
        "writes an earlier answer of the assistant 2 times",
    ),
    "user marked": (
        edited(
            (
                "{{- '<SPECIAL_11>User\\n' ~ obey_switches(text_of(message)) | trim ~ '\\n' -}}",
                OPEN + "{{- '<SPECIAL_11>User\\n' ~ obey_switches(text_of(message)) | trim ~ '\\n' -}}" + CLOSE,
            )
        ),
        "the mask covers an earlier user message",
    ),
    "tool results marked": (
        edited(
            (
                "{{- ', ' if loop.previtem.role == 'tool' else '<SPECIAL_11>User\\n<TOOL_RESPONSE>[' -}}",
                OPEN + "{{- '<SPECIAL_11>User\\n<TOOL_RESPONSE>' if loop.previtem.role != 'tool' -}}" + CLOSE,
            )
        ),
        "the mask covers text that the assistant did not write: '<SPECIAL_11>User",
    ),
    "system dropped": (
        edited(("{{- '<SPECIAL_10>System\\n' ~ system -}}", "{{- '<SPECIAL_10>System\\n' -}}")),
        "the chat template leaves out the system message",
    ),
    "tools dropped": (edited(("{%- if tools -%}", "{%- if false -%}")), "leaves out the list of tools"),
    "tool calls dropped": (edited(("{{- tool_calls_of(message) -}}", "")), "leaves out the first of two tool calls"),
    "all but one call dropped": (
        edited(("for call in message.tool_calls", "for call in message.tool_calls[:1]")),
        "leaves out the second of two tool calls",
    ),
    "tool results dropped": (
        edited(("{{- message.content | tojson if message.content is mapping else text_of(message) -}}", "")),
        "leaves out the first of two tool results",
    ),
    "unknown role": (edited(("'assistant', 'tool']", "'assistant']")), "Message 6 has the unknown role tool"),
    "no Jinja": (edited(("{%- if tools -%}", "{%- if tools")), "expected token"),
    "no prompt": (
        edited(("{%- if add_generation_prompt -%}", "{%- if add_generation_prompt -%}{{- raise_exception('no') -}}")),
        "message 5: its prompt cannot be rendered (the chat template refuses the chat: no)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_TEMPLATES)
def test_broken_templates(name: str, with_template: Callable[[str], ChatTokenizer]) -> None:
    template, words = BROKEN_TEMPLATES[name]
    tokenizer = with_template(template)
    with pytest.raises(ArtifactError, match=re.escape(words)) as caught:
        check_template(tokenizer)
    assert caught.value.where.endswith("other/chat_template.jinja")
    assert caught.value.remedy


def test_the_template_of_every_artifact_is_accepted(tokenizer: ChatTokenizer) -> None:
    check_template(tokenizer)


CALL = calls(call("f", "{}"))
BROKEN_SAMPLES = {
    "nobody answers": ({"messages": [user()]}, "has no assistant turn to train on"),
    "no completion": ({"prompt": [user()]}, "has no assistant turn to train on"),
    "the last question is not answered": (
        {"messages": [user(), assistant(), user("And?")]},
        "line 7 episode 2: has no assistant turn to train on",
    ),
    "cut behind a tool result": (
        {"messages": [user(), CALL, result()]},
        "ends with a tool message that no assistant turn answers",
    ),
    "an empty answer": (
        {"messages": [user(), assistant(" ")]},
        "message 2: the assistant's turn has neither",
    ),
    "reasoning without an answer": (
        {"messages": [user(), CALL, result(), assistant("", reasoning="r")]},
        "message 4: the assistant's turn has neither an answer nor a tool call",
    ),
    "a raw generation that never ended": (
        {"messages": [user(), assistant("<think>\nstill at it")]},
        "message 2: the assistant's turn has neither",
    ),
    "an answer to nothing": (
        {"messages": [assistant(), user(), assistant()]},
        "message 1: nothing stands before the assistant's turn",
    ),
    "a completion without messages": (
        {"prompt": [user(), assistant()], "completion": []},
        "has no assistant turn to train on",
    ),
    "a completion that is a question": (
        {"prompt": [user(), assistant()], "completion": [user()]},
        "has no assistant turn to train on",
    ),
    "an empty prompt": ({"prompt": "", "completion": "x"}, "(a mask of all ones)"),
    "reserved characters": (
        {"messages": [user("".join(chr(code) for code in range(0xFDD0, 0xFDF0)) + "<think>"), assistant()]},
        "the messages use all 32 of U+FDD0 to U+FDEF",
    ),
}


@pytest.mark.parametrize("name", BROKEN_SAMPLES)
def test_broken_samples(name: str, tokenizer: ChatTokenizer) -> None:
    """Those that `test_format` reads without complaint."""
    line, words = BROKEN_SAMPLES[name]
    with pytest.raises(ArtifactError, match=re.escape(words)) as caught:
        encode_sample(tokenizer, parse_sample(line, "a.jsonl line 7"))
    assert caught.value.where.startswith("a.jsonl line 7")
    assert caught.value.remedy


def test_checks_see_what_only_one_sample_meets(with_template: Callable[[str], ChatTokenizer]) -> None:
    """A template that fails for some texts alone passes the check of the template, and not that of the sample."""
    tokenizer = with_template(edited((STOP, "{{- '\\n<SPECIAL_12>' if 'forever' not in answer -}}")))
    check_template(tokenizer)
    good, bad = (
        parse_sample({"messages": [user(), assistant(text)]}, "a.jsonl line 1") for text in ("Bye", "forever")
    )
    encode_sample(tokenizer, good)
    with pytest.raises(ArtifactError, match="does not end the turn"):
        encode_sample(tokenizer, bad)
