"""nano2.json: written complete, read with suspicion."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.artifact.hashing import content_hash
from model.artifact.provenance import (
    Provenance,
    artifact_kind,
    current_hash,
    describe_input,
    read_provenance,
    verify_files,
    write_provenance,
)
from model.artifact.staging import staged_directory
from model.errors import ArtifactError
from tests.model.artifact.chain import make, make_chain


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_chain(tmp_path)


def edit(artifact: Path, **changes: Any) -> None:
    path = artifact / "nano2.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def test_round_trip(artifact: Path) -> None:
    provenance = read_provenance(artifact)
    assert provenance is not None
    assert provenance.kind == "model"
    assert provenance.stage == "sft"
    assert provenance.content_hash == content_hash(artifact)
    assert sorted(provenance.files) == ["config.json", "model.safetensors"]
    assert provenance.files["config.json"].size == (artifact / "config.json").stat().st_size
    assert [parent.path for parent in provenance.parents] == ["base", "tokenizer"]
    assert [parent.kind for parent in provenance.inputs] == ["model", "tokenizer"]
    assert provenance.parents[0].content_hash == content_hash(artifact.parent / "base")
    assert provenance.metrics == {"loss": 1.25}
    assert provenance.created.utcoffset() is not None
    assert provenance.versions["torch"]
    assert provenance.device["type"] == "cpu"


def test_nothing_absolute_but_what_was_typed(artifact: Path, tmp_path: Path) -> None:
    content = json.loads((artifact.parent / "base" / "nano2.json").read_text())
    del content["config"], content["command"]
    assert str(tmp_path) not in json.dumps(content)
    assert [item["path"] for item in content["data"]] == ["../data/text.txt"]


def test_metrics_keep_their_types(tmp_path: Path) -> None:
    metrics = {"i": 3, "f": 3.0, "b": True, "s": "x", "n": None, "bad": float("nan"), "worse": float("-inf")}
    (tmp_path / "config.json").write_text("{}")
    write_provenance(
        tmp_path, Provenance(kind="eval", stage="eval", metrics=metrics, config={"x": float("inf")})
    )
    json.loads((tmp_path / "nano2.json").read_text(), parse_constant=pytest.fail)
    read = read_provenance(tmp_path)
    assert read is not None
    assert repr(read.metrics) == repr(metrics | {"bad": "nan", "worse": "-inf"})


def test_foreign_directory_and_file(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None
    (tmp_path / "file").write_text("x")
    assert read_provenance(tmp_path / "file") is None
    assert read_provenance(tmp_path / "nothing") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff\xfe", '{"kind": "model"', "[" * 100_000])
def test_malformed_json(artifact: Path, text: str) -> None:
    (artifact / "nano2.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"nano2\.json.*JSON") as caught:
        read_provenance(artifact)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "poem"}, "field 'kind'"),
        ({"stage": 3}, "field 'stage'"),
        ({"seconds": -1}, "field 'seconds'"),
        ({"created": "yesterday"}, "field 'created'"),
        ({"content_hash": "md5:00"}, "field 'content_hash'"),
        ({"files": {"config.json": {"sha256": "00", "size": 1}}}, r"field 'files\.config\.json\.sha256'"),
        ({"parents": [{"path": "x"}]}, r"field 'parents\.0\.kind'"),
        ({"surprise": 1}, "field 'surprise'"),
        ({"schema_version": "1"}, "field 'schema_version'"),
        ({"schema_version": 0}, "field 'schema_version'"),
        ({"content_hash": "sha256:" + "0" * 64}, "content_hash and files contradict"),
        ({"files": {}}, "content_hash and files contradict"),
    ],
)
def test_wrong_field_is_named(artifact: Path, changes: dict[str, Any], message: str) -> None:
    edit(artifact, **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_provenance(artifact)
    assert str(artifact / "nano2.json") in str(caught.value)


def test_missing_field_is_named(artifact: Path) -> None:
    content = json.loads((artifact / "nano2.json").read_text())
    del content["stage"]
    (artifact / "nano2.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="field 'stage'"):
        read_provenance(artifact)


def test_newer_schema_says_so_whatever_else_it_holds(artifact: Path) -> None:
    edit(artifact, schema_version=2, kind="hologram", surprise=1)
    with pytest.raises(ArtifactError, match="schema_version 2, and this nano2 reads up to 1") as caught:
        read_provenance(artifact)
    assert "upgrade" in caught.value.remedy


def test_verify_files(artifact: Path) -> None:
    provenance = read_provenance(artifact)
    assert provenance is not None
    verify_files(artifact, provenance)
    (artifact / "metrics.jsonl").write_text("not content")
    verify_files(artifact, provenance)

    weights = artifact / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    verify_files(artifact, provenance, only=["config.json"])
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is damaged"):
        verify_files(artifact, provenance)
    assert current_hash(artifact) == provenance.content_hash  # a flipped bit shows only when the file is read
    assert current_hash(artifact, check=True) == content_hash(artifact) != provenance.content_hash
    weights.write_bytes(content[:-1])
    assert current_hash(artifact) == content_hash(artifact) != provenance.content_hash
    with pytest.raises(ArtifactError, match=r"model\.safetensors: has \d+ bytes"):
        verify_files(artifact, provenance)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is missing"):
        verify_files(artifact, provenance)
    (artifact / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"adapter\.safetensors: is not among"):
        verify_files(artifact, provenance)


def test_input_paths(tmp_path: Path) -> None:
    near = tmp_path / "data" / "x"
    near.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    digest = "sha256:" + "0" * 64
    out = tmp_path / "artifacts" / "out"
    assert describe_input(near, out=out, content_hash=digest).path == "../data/x"
    assert describe_input(tmp_path / "link" / "x", out=out, content_hash=digest).path == "../data/x"
    assert describe_input(near, out=tmp_path / "link" / "out", content_hash=digest).path == "x"
    assert describe_input(Path(os.path.relpath(near)), out=out, content_hash=digest).path == "../data/x"
    assert describe_input(Path("/usr/lib"), out=out, content_hash=digest).path == os.path.realpath("/usr/lib")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("config.json", "model"),
        ("dataset.json", "dataset"),
        ("tokenizer.json", "tokenizer"),
        ("text.txt", None),
    ],
)
def test_kind_of_a_foreign_directory(tmp_path: Path, name: str, kind: str | None) -> None:
    (tmp_path / name).write_text("{}")
    assert artifact_kind(tmp_path) == kind
    assert artifact_kind(tmp_path / name) is None
    described = describe_input(tmp_path, out=tmp_path / "out", content_hash="sha256:" + "0" * 64)
    assert described.kind == (kind or "data")


def test_model_card(artifact: Path) -> None:
    card = (artifact / "README.md").read_text()
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert body.startswith("\n# tuned\n")  # not the name of the staging directory
    for expected in (
        "nano2 sft",
        "time_step_min",
        "1e-30",
        "| loss | 1.25 |",
        "`base`",
        "nano2 replay tuned",
    ):
        assert expected in body
    assert str(content_hash(artifact)) in body
    assert card.endswith("\n")


@pytest.mark.parametrize("kind", ["tokenizer", "dataset", "eval", "bench", "reward"])
def test_model_card_of_every_kind(tmp_path: Path, kind: Any) -> None:
    out = make(tmp_path / "out", kind, "stage", {})
    assert "# out\n" in (out / "README.md").read_text()


def test_the_card_of_unpacked_lines_names_each_file(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "out") as staging:
        for name in ("train", "test"):
            (staging / f"{name}.jsonl").write_text("{}\n")
        write_provenance(staging, Provenance(kind="dataset", stage="data synth"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`-d out/test.jsonl`, `-d out/train.jsonl`" in card
    assert "Arrow" not in card


def test_card_survives_hostile_values(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "out") as staging:
        (staging / "config.json").write_text("{}")
        provenance = Provenance(
            kind="model", stage="x", metrics={"a|b": "c|\nd"}, config={"prompt": "```\n# not a heading"}
        )
        write_provenance(staging, provenance)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| a\\|b | c\\| d |" in card
    assert "````json" in card


def test_time_is_utc(artifact: Path) -> None:
    assert isinstance(Provenance(kind="model", stage="x").created, datetime)
    assert json.loads((artifact / "nano2.json").read_text())["created"].endswith("Z")
