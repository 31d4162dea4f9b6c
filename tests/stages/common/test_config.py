"""The base of the configs: input paths, weights, what counts as the same run."""

import json
import os
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from model.errors import ArtifactError
from stages.common.config import Cosmetic, DataPaths, InputPath, ModelPath, StageConfig, WeightedPath
from stages.common.identity import first_difference, identity
from stages.common.inputs import find_inputs, hash_inputs
from stages.common.reporter import QuietReporter
from stages.common.sizes import Size


class Inner(StageConfig):
    teacher: InputPath | None = None


class Config(StageConfig):
    model: ModelPath | None = None
    data: DataPaths = ()
    named: dict[str, InputPath] = Field(default_factory=dict)
    inner: Inner = Inner()
    output: Path = Path("report.json")
    tokens: Size = 1000
    ratio: float = 0.5
    shuffle: bool = False
    log_every: Annotated[int, Cosmetic()] = 10


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a.txt", "a.txt", 1.0),
        ("a.txt:0.25", "a.txt", 0.25),
        ("a:b:2", "a:b", 2.0),
        ("a:b", "a:b", 1.0),
        ("http://x/y", "http://x/y", 1.0),
        ("a:1e-3", "a", 0.001),
    ],
)
def test_a_weighted_path_is_split_at_a_number(text: str, path: str, weight: float) -> None:
    assert WeightedPath.model_validate(text) == WeightedPath(path=Path(path), weight=weight)


def test_a_path_that_exists_is_taken_whole() -> None:
    Path("run:3").touch()
    assert WeightedPath.model_validate("run:3") == WeightedPath(path=Path("run:3"), weight=1.0)
    assert WeightedPath.model_validate("run:3:0.5") == WeightedPath(path=Path("run:3"), weight=0.5)


@pytest.mark.parametrize("text", ["", ":2", "a:0", "a:-1", "a:inf", "a:nan"])
def test_a_weight_must_be_positive_and_a_path_there(text: str) -> None:
    with pytest.raises(ValidationError):
        WeightedPath.model_validate(text)


@given(
    st.text(st.characters(blacklist_characters="\0/:", blacklist_categories=["Cs"]), min_size=1),
    st.floats(1e-6, 1e6),
)
def test_a_weighted_path_reads_what_it_writes(name: str, weight: float) -> None:
    weight = float(f"{weight:g}")
    weighted = WeightedPath(path=Path(name), weight=weight)
    assert WeightedPath.model_validate(str(weighted)) == weighted


@pytest.mark.parametrize(
    "settings",
    [
        {"unknown": 1},
        {"ratio": "nan"},
        {"ratio": float("inf")},
        {"tokens": True},
        {"ratio": False},
        {"tokens": "1.5"},
    ],
)
def test_unknown_keys_and_disguised_values_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(settings)


def test_a_boolean_is_a_boolean() -> None:
    assert Config(shuffle=True).shuffle is True


def _full() -> Config:
    for name in ("m", "a", "b", "n", "t"):
        Path(name).write_text(name)
    return Config.model_validate(
        {"model": "m", "data": ["a:2", "b"], "named": {"x": "n"}, "inner": {"teacher": "t"}, "log_every": 3}
    )


def test_every_input_is_found_however_deep() -> None:
    found = [(item.field, str(item.path), item.weight) for item in find_inputs(_full())]
    assert found == [
        ("model", "m", None), ("data", "a", 2.0), ("data", "b", 1.0), ("named", "n", None), ("inner", "t", None),
    ]  # fmt: skip


def test_inputs_are_hashed_once_and_recorded() -> None:
    config = _full()
    hashed = hash_inputs(config, QuietReporter())
    assert [item.field for item in hashed] == ["model", "data", "data", "named", "inner"]
    assert all(item.content_hash.startswith("sha256:") for item in hashed)
    resolved = config.resolved({item.path: item.content_hash for item in hashed})
    assert resolved["data"][0] == {"path": "a", "content_hash": hashed[1].content_hash, "weight": 2.0}  # type: ignore[index]
    assert resolved["inner"] == {"teacher": {"path": "t", "content_hash": hashed[4].content_hash}}
    assert resolved["output"] == "report.json"
    assert json.loads(json.dumps(resolved)) == resolved


@pytest.mark.parametrize("name", ["gone", "gone/deeper", "dangling"])
def test_a_missing_input_is_named(name: str) -> None:
    os.symlink("nowhere", "dangling")
    with pytest.raises(ArtifactError, match="no such file") as caught:
        hash_inputs(Config(model=Path(name)), QuietReporter())
    assert caught.value.where == name
    assert "model" in caught.value.remedy


def _identity(config: Config) -> dict[str, object]:
    hashes = {item.path: item.content_hash for item in hash_inputs(config, QuietReporter())}
    return dict(identity(config.resolved(hashes), Config))


def test_the_same_content_elsewhere_is_the_same_run() -> None:
    before = _identity(_full())
    for name in ("m", "a"):
        Path(name).rename(name + "2")
    moved = Config.model_validate(
        {
            "model": "m2",
            "data": ["a2:2", "b"],
            "named": {"x": "n"},
            "inner": {"teacher": "t"},
            "log_every": 99,
        }
    )
    assert first_difference(before, _identity(moved)) is None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tokens": 7}, "tokens was 1000 there and is 7 here"),
        ({"data": ["b", "a:2"]}, "data was [content"),
        ({"data": ["a:3", "b"]}, "data was"),
        ({"inner": {}}, "inner was"),
        ({"output": "other"}, "output was 'report.json' there and is 'other' here"),
    ],
)
def test_a_difference_is_named(change: dict[str, object], names: str) -> None:
    full = _full()
    changed = Config.model_validate(full.model_dump() | change)
    assert names in str(first_difference(_identity(full), _identity(changed)))


def test_changed_content_and_changed_settings_are_named() -> None:
    before = _identity(_full())
    Path("m").write_text("other")
    after = _identity(
        Config.model_validate(
            {"model": "m", "data": ["a:2", "b"], "named": {"x": "n"}, "inner": {"teacher": "t"}}
        )
    )
    assert str(first_difference(before, after)).startswith("model was content ")
    assert first_difference({}, {"new": 1}) == "new is new here (1)"
    assert first_difference({"old": 1}, {}) == "old was 1 there and is no setting here"


def test_the_schema_tells_how_to_write_a_value() -> None:
    schema = Config.model_json_schema()
    assert {"type": "string"} in schema["properties"]["tokens"]["anyOf"]
    assert schema["$defs"]["WeightedPath"]["anyOf"][0]["type"] == "string"
    assert schema["additionalProperties"] is False
