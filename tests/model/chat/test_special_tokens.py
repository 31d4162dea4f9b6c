"""The fixed ids of DESIGN.md, and what a tokenizer makes of them."""

from transformers import PreTrainedTokenizerBase

from model.chat import special_tokens

DESIGN = {
    "<unk>": 0,
    "<s>": 1,
    "</s>": 2,
    "<SPECIAL_3>": 3,
    "<SPECIAL_10>": 10,
    "<SPECIAL_11>": 11,
    "<SPECIAL_12>": 12,
    "<think>": 13,
    "</think>": 14,
    "<TOOLCALL>": 15,
    "</TOOLCALL>": 16,
    "<AVAILABLE_TOOLS>": 17,
    "</AVAILABLE_TOOLS>": 18,
    "<TOOL_RESPONSE>": 19,
    "</TOOL_RESPONSE>": 20,
}


def test_ids_are_those_of_the_design() -> None:
    assert [token.id for token in special_tokens.SPECIAL_TOKENS] == list(range(32))
    assert len({token.name for token in special_tokens.SPECIAL_TOKENS}) == 32
    assert DESIGN.items() <= special_tokens.TOKEN_IDS.items()


def test_each_name_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    for token in special_tokens.SPECIAL_TOKENS:
        assert tokenizer(f"a{token.name}b", add_special_tokens=False)["input_ids"][1] == token.id


def test_tags_survive_a_decoder_that_skips_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "".join(token.name for token in special_tokens.SPECIAL_TOKENS)
    ids = list(range(32))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(special_tokens.TAGS)
