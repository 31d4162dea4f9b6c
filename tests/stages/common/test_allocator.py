"""What the allocators are told."""

import os

import pytest

from stages.common.allocator import let_segments_grow

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "max_split_size_mb:128")
    let_segments_grow()
    assert [os.environ.get(other) for other in NAMES].count(None) == 1
    assert os.environ[name] == "max_split_size_mb:128"


def test_segments_grow_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back behind the test
        monkeypatch.delenv(name)
    let_segments_grow()
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
