import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from model.chat.special_tokens import SPECIAL_TOKENS
from model.errors import ArtifactError
from stages.common.data.text_tokenizer import TextTokenizer, load_backend, token_byte_lengths, token_bytes


def test_documents_are_wrapped_and_exact(tokenizer_directory: Path) -> None:
    tokenizer = TextTokenizer.open(tokenizer_directory)
    texts = ["the old mill", "", "new\n\nlines 123"]
    spelled = token_bytes(tokenizer_directory)
    for text, ids in zip(texts, tokenizer.encode_documents(texts), strict=True):
        assert ids.dtype == np.int32
        assert ids[0] == 1
        assert ids[-1] == 2
        assert b"".join(spelled[index] for index in ids[1:-1]).decode() == text


def test_text_never_becomes_a_control_token(tokenizer_directory: Path) -> None:
    text = "".join(token.name for token in SPECIAL_TOKENS)
    [ids] = TextTokenizer.open(tokenizer_directory).encode_documents([text])
    assert (ids[1:-1] >= len(SPECIAL_TOKENS)).all()
    assert load_backend(tokenizer_directory).encode(text, add_special_tokens=False).ids == list(range(32))


@given(st.text())
def test_byte_lengths_add_up_to_the_text(tokenizer_directory: Path, text: str) -> None:
    lengths = token_byte_lengths(tokenizer_directory)
    [ids] = TextTokenizer.open(tokenizer_directory).encode_documents([text])
    assert lengths[ids].sum() == len(text.encode())


def test_byte_lengths_of_specials_and_bytes(tokenizer_directory: Path) -> None:
    spelled = token_bytes(load_backend(tokenizer_directory))
    assert not any(spelled[: len(SPECIAL_TOKENS)])
    assert sorted(spelled[32:288]) == [bytes([byte]) for byte in range(256)]
    assert len(token_byte_lengths(tokenizer_directory)) == 400


def _with_vocabulary(directory: Path, words: dict[str, int], *, byte_level: bool = True) -> Path:
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def test_required_tokens(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no </s> token"):
        TextTokenizer.open(_with_vocabulary(tmp_path, {"<s>": 0, "a": 1}))


def test_a_vocabulary_that_is_not_byte_level_has_no_byte_lengths(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not byte-level"):
        token_byte_lengths(_with_vocabulary(tmp_path, {"<s>": 0, "</s>": 1}, byte_level=False))


def test_ids_beyond_32_bits(tmp_path: Path) -> None:
    path = _with_vocabulary(tmp_path, {"<s>": 0, "</s>": 1, "a": 2}) / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["model"]["vocab"]["a"] = 2**31
    path.write_text(json.dumps(spec))
    with pytest.raises(ArtifactError, match="32-bit ids"):
        TextTokenizer.open(tmp_path)


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b'{"model": 1}', b"\xff\xfe", json.dumps([1]).encode()]
)
def test_damaged_tokenizers_are_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    for call in (TextTokenizer.open, token_byte_lengths):
        with pytest.raises(ArtifactError, match=str(tmp_path)) as caught:
            call(tmp_path)
        assert caught.value.remedy
