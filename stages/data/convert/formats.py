"""The formats that `nano2 data convert` reads, by name: a function from a row to a line of chat jsonl, or to pairs."""

from collections.abc import Callable, Mapping
from typing import Any

from stages.data.convert import dialogues, preferences, questions, toolrl
from stages.data.convert.config import FormatName

Converter = Callable[[Mapping[str, Any]], dict[str, Any]]
PairConverter = Callable[[Mapping[str, Any]], list[dict[str, Any]]]

FORMATS: dict[FormatName, Converter] = {
    "gsm8k": questions.gsm8k,
    "math": questions.math,
    "svamp": questions.svamp,
    "aqua": questions.aqua,
    "commonsenseqa": questions.commonsenseqa,
    "mbpp": questions.mbpp,
    "self-instruct": questions.self_instruct,
    "dolly": questions.dolly,
    "toolrl": toolrl.toolrl,
    "reason-tool-use": dialogues.reason_tool_use,
    "glaive": dialogues.glaive,
    "taskmaster4": dialogues.taskmaster4,
    "react-hotpotqa": dialogues.react_hotpotqa,
    "xlam": dialogues.xlam,
}
"""ValueError names what a row lacks; `LeftOut` says why a sound row is no example."""

PAIR_FORMATS: dict[FormatName, PairConverter] = {
    "preference": preferences.preference,
    "helpsteer3": preferences.helpsteer3,
    "taskmaster-rewards": preferences.taskmaster_rewards,
}
"""The same for preferences: a row gives one pair or more."""
