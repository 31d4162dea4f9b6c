"""The first 32 ids of every tokenizer trained here (DESIGN.md, "The artifact").

Ids 0 to 12 mean what they mean in the released Nemotron Nano 2 tokenizer. The tags of thinking and tool calls
are single tokens here; the released tokenizer spells them in several, so parsers and budgets work on text.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """One fixed vocabulary entry.

    `special` is the flag of the same name in tokenizer.json: `decode(skip_special_tokens=True)`, the default
    of vLLM, drops special tokens. The tags are not special: the parsers need them in the decoded text.
    """

    name: str
    id: int
    special: bool


UNK = PAD = "<unk>"
BOS = "<s>"
EOS = "</s>"
SYSTEM_TURN = "<SPECIAL_10>"
TURN = "<SPECIAL_11>"
END_OF_TURN = "<SPECIAL_12>"

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
TOOL_CALL_OPEN = "<TOOLCALL>"
TOOL_CALL_CLOSE = "</TOOLCALL>"
AVAILABLE_TOOLS_OPEN = "<AVAILABLE_TOOLS>"
AVAILABLE_TOOLS_CLOSE = "</AVAILABLE_TOOLS>"
TOOL_RESPONSE_OPEN = "<TOOL_RESPONSE>"
TOOL_RESPONSE_CLOSE = "</TOOL_RESPONSE>"

TAGS = (
    THINK_OPEN,
    THINK_CLOSE,
    TOOL_CALL_OPEN,
    TOOL_CALL_CLOSE,
    AVAILABLE_TOOLS_OPEN,
    AVAILABLE_TOOLS_CLOSE,
    TOOL_RESPONSE_OPEN,
    TOOL_RESPONSE_CLOSE,
)

N_FIXED_IDS = 32
_FIRST_RESERVED = 3 + 10 + len(TAGS)
_NAMES = (
    *(UNK, BOS, EOS),
    *(f"<SPECIAL_{i}>" for i in range(3, 13)),
    *TAGS,
    *(f"<SPECIAL_{i}>" for i in range(_FIRST_RESERVED, N_FIXED_IDS)),
)

SPECIAL_TOKENS = tuple(SpecialToken(name, i, special=name not in TAGS) for i, name in enumerate(_NAMES))
"""All 32 in id order: `SPECIAL_TOKENS[i].id == i`. Ids 21 to 31 are reserved."""

TOKEN_IDS = {token.name: token.id for token in SPECIAL_TOKENS}
EOS_ID = TOKEN_IDS[EOS]
END_OF_TURN_ID = TOKEN_IDS[END_OF_TURN]
