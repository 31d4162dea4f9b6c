"""Content hashes of files and directories."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.artifact.hashing import combined_hash, content_files, content_hash, file_sha256, short_hash
from model.errors import ArtifactError


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    expected = hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert file_sha256(path) == expected
    assert content_hash(path) == f"sha256:{expected}"
    assert short_hash(content_hash(path)) == expected[:12]


def test_only_content_counts(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", {"config.json": "{}", "sources/books/data.arrow": "rows"})
    before = content_hash(folder)
    fill(
        folder,
        {
            "nano2.json": "{}",
            "metrics.jsonl": "{}",
            "README.md": "card",
            "train.log": "step 1",
            "tensorboard/events": "x",
            ".hidden": "x",
            "sources/.cache/x": "x",
        },
    )
    assert content_hash(folder) == before
    assert content_files(folder) == ["config.json", "sources/books/data.arrow"]


@pytest.mark.parametrize(
    "name", ["sources/README.md", "sources/metrics.jsonl", "sources/a.log", "readme.txt"]
)
def test_names_are_left_out_at_the_top_only(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "a", {"config.json": "{}"})
    before = content_hash(folder)
    fill(folder, {name: "raw data"})
    assert content_hash(folder) != before


def test_every_change_shows(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", {"x": "1", "sub/y": "2"})
    seen = {content_hash(folder)}
    for change in ({"x": "2"}, {"z": ""}, {"sub/z": ""}):
        fill(folder, change)
        seen.add(content_hash(folder))
    (folder / "z").rename(folder / "w")
    seen.add(content_hash(folder))
    (folder / "x").unlink()
    seen.add(content_hash(folder))
    assert len(seen) == 6


def test_place_age_and_links_do_not_matter(tmp_path: Path) -> None:
    files = {"x": "1", "sub/y": "2"}
    first, second = fill(tmp_path / "a", files), tmp_path / "b"
    fill(tmp_path / "blobs", {"1": "1", "folder/y": "2"})
    second.mkdir()
    (second / "x").symlink_to(tmp_path / "blobs" / "1")
    (second / "sub").symlink_to(tmp_path / "blobs" / "folder")
    os.utime(first / "x", (0, 0))
    assert content_hash(first) == content_hash(second)


def test_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", {"x": "1"})
    before = content_hash(folder)
    (folder / "loop").symlink_to(folder)
    assert content_hash(folder) == before


def test_dangling_link_and_nothing_at_all(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", {"x": "1"})
    (folder / "weights").symlink_to(tmp_path / "gone")
    with pytest.raises(ArtifactError, match=r"weights.*does not exist"):
        content_hash(folder)
    with pytest.raises(ArtifactError, match=r"nothing.*does not exist"):
        content_hash(tmp_path / "nothing")


@given(
    st.dictionaries(st.text("ab\n /\"'", min_size=1), st.sampled_from(["0" * 64, "1" * 64]), max_size=3),
    st.data(),
)
def test_combined_hash_depends_on_the_set_of_files_only(files: dict[str, str], data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(files.items()))))
    assert combined_hash(files) == combined_hash(shuffled)
    for name in files:
        assert combined_hash({**files, name: "2" * 64}) != combined_hash(files)
        assert combined_hash({key: value for key, value in files.items() if key != name}) != combined_hash(
            files
        )
        assert (
            combined_hash({(key + "a" if key == name else key): value for key, value in files.items()})
            != (combined_hash(files))
            or name + "a" in files
        )


def test_no_name_can_pass_for_several_files() -> None:
    one, two = "1" * 64, "2" * 64
    files = combined_hash({"a": one, "b": two})
    for name in (f"a{two}b", f"a {two} b", f"a{two} b", f"a\n{two} b"):
        assert combined_hash({name: one}) != files


def test_many_files_in_parallel_are_the_same_as_one_by_one() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), {f"d{number % 7}/f{number}": str(number) for number in range(200)})
        expected = combined_hash({path: file_sha256(folder / path) for path in content_files(folder)})
        assert content_hash(folder) == expected
