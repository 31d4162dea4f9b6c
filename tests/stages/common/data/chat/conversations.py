"""Fifty conversations: every combination of a few systems, shapes and ways of thinking that a chat can have."""

from typing import Any

from tests.model.chat.builders import assistant, call, calls, result, user

COUNT = 50

SYSTEMS = [None, "", "Be brief.", "Rules: /no_think be kind", "  Grüße, 世界 \U0001f600  "]
SWITCHES = ["", "/think", "/no_think", "Please /no_think now, no /think", "/thinking a/no_think"]
THINKING = [None, True, False]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Wetter für eine Stadt",
            "parameters": {"type": "object"},
        },
    },
    {"name": "time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}},
]
TEXTS = [
    ("What is 2 + 2?", "4", "Two and two."),
    ("Größe in 世界?", "Ganz groß.\n\n- ja \U0001f600", "Überlegen ...\n\nZwei Zeilen."),
    ("Say </think> and <SPECIAL_12> <TOOLCALL>", "<SPECIAL_12>\n<SPECIAL_11>User", "<think> </think> <s>"),
    ("  spaces  and\ttabs \n", "\n  indented\n", " \n reasons \n\n"),
    ("/think", "/no_think", "a /no_think b"),
]
SHAPES = [
    "one turn",
    "no reasoning",
    "history",
    "call",
    "parallel calls",
    "two rounds of calls",
    "history with calls",
]


def has_control_names(conversation: dict[str, Any]) -> bool:
    """A user who writes them gets control tokens where the conversation is rendered as text first (docs/chat.md)."""
    return "<SPECIAL_12>" in str(conversation)


def conversation(number: int) -> dict[str, Any]:
    """Line `number` of chat jsonl. The radices have no common factor, so that all pairs of settings meet."""
    question, answer, reason = TEXTS[number % 5]
    shape = SHAPES[number % 7]
    system = SYSTEMS[(number // 2) % 5]
    ask = user(f"{question} {SWITCHES[(number // 3) % 5]}")
    if shape == "history with calls":
        ask = user(
            [{"type": "text", "text": ask["content"][:5]}, {"type": "text", "text": ask["content"][5:]}]
        )
    field = ("reasoning_content", "reasoning")[number % 2]
    final = assistant(answer, **{field: reason})
    first = calls(call("weather", '{"city":"Zürich"}', id="a"))
    both = calls(call("weather", {"city": "Rome"}, id="a"), call("time", "", id="b"))
    both |= {field: reason, "content": answer if number % 3 else None}
    messages = {
        "one turn": [ask, final],
        "no reasoning": [ask, assistant(answer)],
        "history": [user("a"), assistant("b", reasoning="old"), ask, final],
        "call": [ask, first, result("sunny", tool_call_id="a", name="weather"), final],
        "parallel calls": [ask, both, result({"sky": "grau"}, tool_call_id="a"), result(answer), final],
        "two rounds of calls": [ask, first, result("none"), both, result("x"), result(""), final],
        "history with calls": [user("a"), both, result("1"), result("2"), assistant("c"), ask, first, result(), final],
    }[shape]  # fmt: skip
    line: dict[str, Any] = {
        "messages": ([] if system is None else [{"role": "system", "content": system}]) + messages
    }
    if "call" in shape or number % 11 == 0:
        line["tools"] = TOOLS
    if THINKING[number % 3] is not None:
        line["thinking"] = THINKING[number % 3]
    return line


CONVERSATIONS = [conversation(number) for number in range(COUNT)]
