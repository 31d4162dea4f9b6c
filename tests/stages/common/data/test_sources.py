from pathlib import Path

import pytest

from model.errors import ArtifactError, UsageError
from stages.common.config import StageConfig
from stages.common.data.source_path import SourcePaths
from stages.common.data.sources import resolve_sources
from stages.common.inputs import find_inputs
from tests.stages.common.data.helpers import write_jsonl


def _names(*paths: Path) -> list[str]:
    return [source.name for source in resolve_sources((path, 1.0) for path in paths)]


def test_names_come_from_stems_folders_and_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "my texts"
    folder.mkdir()
    write_jsonl(tmp_path / "web.jsonl.gz", ["a"])
    (tmp_path / "shakespeare.v2.txt").write_text("b")
    for number in range(3):
        write_jsonl(folder / f"books_{number:02}.jsonl", ["c"])
    assert _names(tmp_path / "web.jsonl.gz", tmp_path / "shakespeare.v2.txt") == ["web", "shakespeare.v2"]
    assert _names(folder) == ["my_texts"]
    assert _names(folder / "books_*.jsonl") == ["books"]
    assert _names(folder / "*.jsonl") == ["my_texts"]


def test_two_sources_of_one_name_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(name)
    assert _names(tmp_path / "a/train.txt", tmp_path / "b/train.txt") == ["train", "train_2"]


def test_a_directory_is_read_in_order_without_what_is_hidden_or_no_text(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "deep/c.parquet", ".hidden.txt", "README.md", "image.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    [source] = resolve_sources([(tmp_path, 2.0)])
    assert [file.relative_to(tmp_path).as_posix() for file in source.files] == [
        "a.jsonl",
        "b.txt",
        "deep/c.parquet",
    ]
    assert source.weight == 2.0


def test_each_file_of_a_pattern_is_an_input_of_the_stage(tmp_path: Path) -> None:
    class Config(StageConfig):
        data: SourcePaths

    files = [write_jsonl(tmp_path / f"x{number}.jsonl", ["a"]) for number in range(2)]
    config = Config(data=[f"{tmp_path}/x*.jsonl:0.5", str(files[0])])
    assert [(item.path, item.weight) for item in find_inputs(config)] == [
        (files[0], 0.5),
        (files[1], 0.5),
        (files[0], 1),
    ]
    assert config.resolved(dict.fromkeys(files, "sha256:1"))["data"][1]["path"] == str(files[0])
    assert find_inputs(Config(data=[f"{tmp_path}/nothing*"]))[0].path == tmp_path / "nothing*"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "missing.txt", "missing.txt: no such file"),
        (lambda root: root / "no*.jsonl", r"no\*.jsonl: no such file"),
        (lambda root: root / "empty", "empty: the directory holds no text"),
        (lambda root: root / "image.png", "image.png: is no kind of text"),
        (lambda root: root / "packed", "packed: is a packed dataset"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, make, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/dataset.json").write_text("{}")
    with pytest.raises(ArtifactError, match=message):
        resolve_sources([(make(tmp_path), 1.0)])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_are_positive_numbers(tmp_path: Path, weight: float) -> None:
    with pytest.raises(UsageError, match="not a positive number"):
        resolve_sources([(write_jsonl(tmp_path / "a.jsonl", ["x"]), weight)])


def test_held_out_parts_are_not_read_by_naming_their_folder(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [name])
    with pytest.raises(ArtifactError, match="holds train and dev and test") as caught:
        resolve_sources([(tmp_path, 1.0)])
    assert str(tmp_path / "train.jsonl") in caught.value.remedy
    [source] = resolve_sources([(tmp_path / "train.jsonl", 1.0)])
    assert source.files == (tmp_path / "train.jsonl",)
    (tmp_path / "train.jsonl").rename(tmp_path / "books.jsonl")
    [source] = resolve_sources([(tmp_path, 1.0)])
    assert len(source.files) == 3


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["x"])
    with pytest.raises(UsageError, match="given twice"):
        resolve_sources([(path, 1.0), (tmp_path, 1.0)])
    with pytest.raises(UsageError, match="no data"):
        resolve_sources([])
