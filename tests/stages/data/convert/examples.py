"""A row of every format, written by hand, and the line that it becomes."""

from typing import Any


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


TOOLRL = {
    "id": "t",
    "system": "You are a helpful assistant.\n\n**Available Tools**\nIn your response, you can use the following tools:\n"
    '1. Name: Find River\nDescription: Finds a river.\nIn any country.\nParameters: {"name": {"description": "Its name", '
    '"type": "str, optional", "default": 0.05}}\n'
    '2. Name: sum\nDescription: Adds.\nParameters: {"values": {"description": "Numbers", "type": "List[float]", '
    '"default": ""}}\n\n**Steps for Each Turn**\n1. **Think:** ...\n**Output Format**\n<think> </think>',
    "prompt": "**Dialogue Records History**\n<user> Where is the Lech? </user>\n\n<think> Look it up. </think>\n"
    '<tool_call>\n{"name": "Find River", "parameters": {"name": "Lech"}}\n'
    '{"name": "sum", "parameters": {"values": [1]}}\n</tool_call>\n'
    '<obs> [{"name": "Find River", "results": {"in": "Bavaria"}}, {"name": "sum", "results": 1}] </obs>\n\n'
    "<think> Answer. </think>\n<response> In Bavaria. </response>\n\n<user> And the Isar? </user>",
    "response": "<think> Mention <tool_call> here. </think>\n<tool_call>\n"
    '{"name": "Find River", "parameters": {"name": "Isar"}}\n</tool_call>',
}
REASON = {
    "id": "r",
    "messages": [
        {"role": "system", "content": [{"type": "text", "value": "Be kind."}]},
        {"role": "user", "content": [{"type": "text", "value": "Areas?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "value": "Two calls."},
                {"type": "tool_call", "value": '{"name": "area", "arguments": {"r": 1}}'},
                {"type": "tool_call", "value": '{"name": "area", "arguments": {"r": 2}}'},
            ],
        },
        {
            "role": "tool",
            "content": [
                {"type": "text", "value": '[{"name": "area", "content": "3.1"}, {"name": "area", "content": {"a": 12.6}}]'},
            ],
        },
        {"role": "assistant", "content": [{"type": "reasoning", "value": "Done."}, {"type": "text", "value": "3.1, 12.6"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "area", "parameters": {}}}],
}  # fmt: skip

GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gsm8k": (
        {"id": "g-0", "question": "2+2?", "solution": "2+2 = 4.", "final_answer": "4", "answer_raw": "x"},
        {
            "id": "g-0",
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "The answer is $\\boxed{4}$.", "reasoning_content": "2+2 = 4."},
            ],
            "grader": {"name": "math", "answer": "4"},
        },
    ),
    "math": (
        {"id": "m", "problem": "Half?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{\\frac12}$.",
         "final_answer": "\\frac12", "split": "train"},
        {
            "id": "m",
            "messages": [
                {"role": "user", "content": "Half?"},
                {"role": "assistant", "content": "The answer is $\\boxed{\\frac12}$.",
                 "reasoning_content": "It is $\\boxed{\\frac12}$."},
            ],
            "grader": {"name": "math", "answer": "\\frac12"},
            "metadata": {"level": "Level 1", "type": "Algebra"},
        },
    ),
    "svamp": (
        {"id": "s", "question": "How many?", "equation": "( ( 22.0 + 40.0 ) - 2.5 )", "answer": 59.5},
        {
            "id": "s",
            "messages": [
                {"role": "user", "content": "How many?"},
                {"role": "assistant", "content": "The answer is $\\boxed{59.5}$.",
                 "reasoning_content": "(22 + 40) - 2.5 = 59.5"},
            ],
            "grader": {"name": "math", "answer": "59.5"},
        },
    ),
    "aqua": (
        {"id": "a", "question": "Speed?", "options": ["A)1", "B)2"], "rationale": "It is 2.\nB", "answer": "B"},
        {
            "id": "a",
            "messages": [
                {"role": "user", "content": "Speed?\nA)1\nB)2"},
                {"role": "assistant", "content": "The answer is $\\boxed{B}$.", "reasoning_content": "It is 2.\nB"},
            ],
            "grader": {"name": "math", "answer": "B"},
        },
    ),
    "commonsenseqa": (
        {"id": "c", "question": "Where?", "choices": ["here", "there"], "answer": 1},
        {
            "id": "c",
            "messages": [
                {"role": "user", "content": "Where?\nA) here\nB) there"},
                {"role": "assistant", "content": "The answer is $\\boxed{B}$, there."},
            ],
            "grader": {"name": "math", "answer": "B"},
        },
    ),
    "mbpp": (
        {"task_id": 7, "text": "Write f.", "code": "def f():\r\n\treturn 1", "test_list": ["assert f() == 1"],
         "test_setup_code": "x = 1\r\n", "challenge_test_list": []},
        {
            "id": "7",
            "messages": [
                {"role": "user", "content": "Write f.\n\nThe code should pass these tests:\nassert f() == 1"},
                {"role": "assistant", "content": "```python\ndef f():\n\treturn 1\n```"},
            ],
            "grader": {"name": "code", "tests": ["x = 1\nassert f() == 1"]},
        },
    ),
    "self-instruct": (
        {"id": "i", "set": "seed", "instruction": "Relate.", "input": "a : b", "output": "Opposites."},
        {
            "id": "i",
            "messages": [
                {"role": "user", "content": "Relate.\n\na : b"},
                {"role": "assistant", "content": "Opposites."},
            ],
        },
    ),
    "dolly": (
        {"id": "d", "instruction": " What? ", "output": "That."},
        {
            "id": "d",
            "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}],
        },
    ),
    "toolrl": (
        TOOLRL,
        {
            "id": "t",
            "prompt": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Where is the Lech?"},
                {"role": "assistant", "content": "", "reasoning_content": "Look it up.",
                 "tool_calls": [call("Find River", name="Lech"), call("sum", values=[1])]},
                {"role": "tool", "content": '{"in": "Bavaria"}'},
                {"role": "tool", "content": "1"},
                {"role": "assistant", "content": "In Bavaria.", "reasoning_content": "Answer."},
                {"role": "user", "content": "And the Isar?"},
            ],
            "completion": [
                {"role": "assistant", "content": "", "reasoning_content": "Mention <tool_call> here.",
                 "tool_calls": [call("Find River", name="Isar")]},
            ],
            "tools": [
                {"type": "function", "function": {
                    "name": "Find River", "description": "Finds a river.\nIn any country.",
                    "parameters": {"type": "object", "properties": {"name": {"type": "string", "description": "Its name"}}},
                }},
                {"type": "function", "function": {
                    "name": "sum", "description": "Adds.",
                    "parameters": {"type": "object", "properties": {"values": {"type": "array", "description": "Numbers"}}},
                }},
            ],
            "grader": {"name": "tool_calls", "calls": [{"name": "Find River", "arguments": {"name": "Isar"}}]},
        },
    ),
    "reason-tool-use": (
        REASON,
        {
            "id": "r",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Areas?"},
                {"role": "assistant", "content": "", "reasoning_content": "Two calls.",
                 "tool_calls": [call("area", r=1), call("area", r=2)]},
                {"role": "tool", "content": "3.1"},
                {"role": "tool", "content": '{"a": 12.6}'},
                {"role": "assistant", "content": "3.1, 12.6", "reasoning_content": "Done."},
            ],
            "tools": REASON["tools"],
        },
    ),
    "glaive": (
        {
            "id": "v",
            "tools": [{"name": "find", "description": "Finds.", "parameters": {"type": "object"}}],
            "messages": [
                {"role": "user", "content": "Find it."},
                {"role": "tool_call", "content": '{"name": "find", "arguments": {"what": ["it"]}}'},
                {"role": "tool_call", "content": '{"name": "find", "arguments": {}}'},
                {"role": "tool_response", "content": '{"found": true}'},
                {"role": "tool_response", "content": "no"},
                {"role": "assistant", "content": "Found."},
            ],
        },
        {
            "id": "v",
            "messages": [
                {"role": "user", "content": "Find it."},
                {"role": "assistant", "content": "", "tool_calls": [call("find", what=["it"]), call("find")]},
                {"role": "tool", "content": '{"found": true}'},
                {"role": "tool", "content": "no"},
                {"role": "assistant", "content": "Found."},
            ],
            "tools": [{"type": "function", "function": {
                "name": "find", "description": "Finds.", "parameters": {"type": "object"}}}],
        },
    ),
    "react-hotpotqa": (
        {
            "id": "h",
            "question": "Who?",
            "steps": [
                {"thought": "Search.", "action": "Search[River [Lech]]", "observation": "A river.\n"},
                {"thought": "Known.", "action": "Finish[Max]", "observation": "Episode finished, reward = 1\n"},
            ],
        },
        {
            "id": "h",
            "messages": [
                {"role": "user", "content": "Who?"},
                {"role": "assistant", "content": "", "reasoning_content": "Search.",
                 "tool_calls": [call("search", text="River [Lech]")]},
                {"role": "tool", "content": "A river."},
                {"role": "assistant", "content": "Max", "reasoning_content": "Known."},
            ],
        },
    ),
    "taskmaster4": (
        {
            "id": "k",
            "scenario": "menu",
            "messages": [
                {"role": "user", "content": "tea?"},
                {"role": "tool_response", "name": "show_menu", "content": {"success": True}},
                {"role": "assistant", "content": "black"},
                {"role": "user", "content": "one"},
                {"role": "tool_call", "name": "add_order_item", "arguments": {"menu_item_id": "t", "quantity": "1"}},
                {"role": "tool_response", "name": "add_order_item", "content": {"order_id": "1"}},
            ],
        },
        {
            "id": "k",
            "messages": [
                {"role": "user", "content": "tea?"},
                {"role": "assistant", "content": "", "tool_calls": [call("show_menu")]},
                {"role": "tool", "content": '{"success": true}'},
                {"role": "assistant", "content": "black"},
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "", "tool_calls": [call("add_order_item", menu_item_id="t", quantity="1")]},
            ],
            "metadata": {"scenario": "menu"},
        },
    ),
    "xlam": (
        {
            "id": 3,
            "query": "Both?",
            "tools": '[{"name": "f", "description": "F.", "parameters": {"x": {"type": "int"}}}]',
            "answers": '[{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 2}}]',
        },
        {
            "id": "3",
            "messages": [
                {"role": "user", "content": "Both?"},
                {"role": "assistant", "content": "", "tool_calls": [call("f", x=1), call("f", x=2)]},
            ],
            "tools": [{"type": "function", "function": {
                "name": "f", "description": "F.", "parameters": {"x": {"type": "int"}}}}],
            "grader": {"name": "tool_calls", "calls": [
                {"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 2}}]},
        },
    ),
}  # fmt: skip
