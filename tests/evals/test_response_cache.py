"""The cache of answers as its worst users would treat it: killed writers, damaged files, two at once, a full disk."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from evals.response_cache import ResponseCache, content_key
from model.errors import UsageError

KEYS = [content_key({"item": number}) for number in range(20)]


def silent(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def filled(path: Path) -> Path:
    with ResponseCache(path, silent) as cache:
        for number, key in enumerate(KEYS):
            cache.put({key: {"text": f"answer {number} ünï\n\n", "tokens": number}})
    return path


def test_what_was_put_is_there_the_next_time(tmp_path: Path) -> None:
    path = filled(tmp_path / "new" / "answers")
    with ResponseCache(path, silent) as cache:
        assert len(cache) == 20
        assert cache.get(KEYS[7]) == {"text": "answer 7 ünï\n\n", "tokens": 7}
        assert cache.get(content_key("other")) is None
        cache.put({KEYS[7]: 1.5, KEYS[8]: None})
        assert cache.get(KEYS[7]) == 1.5
    with ResponseCache(path, silent) as cache:
        assert cache.get(KEYS[7]) == 1.5, "the last line counts"


def test_keys_are_of_the_content() -> None:
    assert content_key({"a": [1, 2], "b": "ü"}) == content_key({"b": "ü", "a": (1, 2)})
    assert content_key({"a": [1, 2]}) != content_key({"a": [12]})


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_line_cut_short_is_dropped_and_the_next_write_is_whole(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path / "answers")
    os.truncate(path, path.stat().st_size - cut)
    warnings: list[str] = []
    with ResponseCache(path, warnings.append) as cache:
        assert cache.get(KEYS[19]) is None
        assert len(cache) == 19
        cache.put({KEYS[19]: "again"})
    assert len(warnings) == 1
    assert "dropped 1 damaged lines, 19 are whole" in warnings[0]
    with ResponseCache(path, silent) as cache:
        assert cache.get(KEYS[19]) == "again"
        assert len(cache) == 20


def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    data = filled(tmp_path / "answers").read_bytes()
    second = data.split(b"\n")[1]
    start = data.index(second)
    for offset in range(0, len(second), 7):
        path = tmp_path / f"damaged-{offset}"
        changed = bytearray(data)
        changed[start + offset] ^= 1
        path.write_bytes(changed)
        warnings: list[str] = []
        with ResponseCache(path, warnings.append) as cache:
            assert len(cache) == 19
            assert cache.get(KEYS[1]) is None
            assert cache.get(KEYS[2]) is not None
        assert len(warnings) == 1


@pytest.mark.parametrize("content", [b"\x00" * 5000, b"\n\n\n", b"{}\nnull\n[1", bytes(range(256)) * 20])
def test_garbage_is_no_cache_but_does_no_harm(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers"
    path.write_bytes(content)
    warnings: list[str] = []
    with ResponseCache(path, warnings.append) as cache:
        assert len(cache) == 0
        cache.put({KEYS[0]: 1})
    assert len(warnings) <= 1
    with ResponseCache(path, silent) as cache:
        assert cache.get(KEYS[0]) == 1


def test_a_file_changed_while_it_is_open(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers")
    with ResponseCache(path, silent) as cache:
        os.truncate(path, 50)
        assert cache.get(KEYS[3]) is None
        assert KEYS[3] not in cache


def test_a_file_that_is_removed_is_made_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers")
    with ResponseCache(path, silent) as cache:
        path.unlink()
        cache.put({KEYS[0]: "new"})
        assert cache.get(KEYS[0]) == "new"
        assert cache.get(KEYS[1]) is None
    with ResponseCache(path, silent) as cache:
        assert len(cache) == 1


def test_nothing_leaves_nothing_and_takes_nothing_from_others(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    with ResponseCache(path, silent) as other:
        with ResponseCache(path, silent):
            pass
        assert not path.exists()
        other.put({KEYS[0]: 1})
    with ResponseCache(path, silent) as cache:
        assert cache.get(KEYS[0]) == 1


WRITER = """
    import sys
    from pathlib import Path
    from evals.response_cache import ResponseCache, content_key
    with ResponseCache(Path(sys.argv[1]), print) as cache:
        for number in range(int(sys.argv[3])):
            cache.put({content_key([sys.argv[2], number]): sys.argv[2] * 3000})
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    writers = [writer(path, name, 150) for name in "abc"]
    assert [process.communicate(timeout=60)[0] for process in writers] == ["", "", ""]
    with ResponseCache(path, silent) as cache:
        for name in "abc":
            assert all(cache.get(content_key([name, number])) == name * 3000 for number in range(150))


def test_a_killed_writer_leaves_a_cache_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    process = writer(path, "a", 10**6)
    while not path.exists() or path.stat().st_size < 200_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    warnings: list[str] = []
    with ResponseCache(path, warnings.append) as cache:
        assert len(cache) > 50
        cache.put({KEYS[0]: 1})
    assert len(warnings) <= 1
    with ResponseCache(path, silent) as cache:
        assert cache.get(KEYS[0]) == 1
        assert cache.get(content_key(["a", 5])) == "a" * 3000


def test_a_file_that_may_not_grow_keeps_what_it_has(tmp_path: Path) -> None:
    """A real limit of the kernel on the size of files, as a full disk would be: the write ends half-way."""
    path = filled(tmp_path / "answers")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResponseCache(path, silent) as cache:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, limits[1]))
        try:
            with pytest.raises(OSError) as caught:
                cache.put({content_key("long"): "x" * 5000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        cache.put({content_key("long"): "x"})
        assert cache.get(content_key("long")) == "x"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the cache cannot be written"):
        ResponseCache(tmp_path / "file" / "answers", silent)
