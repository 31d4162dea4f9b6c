"""The chain of parents: drawn, with what is missing, moved or changed."""

import json
import shutil
from pathlib import Path

import pytest

from model.artifact.hashing import content_hash
from model.artifact.lineage import LineageNode, lineage
from model.errors import ArtifactError
from tests.model.artifact.chain import make, make_chain


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return make_chain(tmp_path / "tree")


def names(node: LineageNode) -> list[str]:
    return [f"{Path(item.path).name}:{item.status}" for item in node.walk()]


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


WHOLE = ["tuned:ok", "base:ok", "tokenizer:ok", "text.txt:ok", "text.txt:ok", "tokenizer:ok", "text.txt:ok"]


def test_whole_chain(tuned: Path) -> None:
    root = lineage(tuned)
    assert names(root) == WHOLE
    assert [item.stage for item in root.walk()][:4] == ["sft", "pretrain", "data tokenizer", None]
    assert root.content_hash == content_hash(tuned)
    assert root.parents[0].metrics == {"loss": 2.5}
    assert root.parents[1].parents[0].weight == 2.0
    assert LineageNode.model_validate_json(root.model_dump_json()) == root


@pytest.mark.usefixtures("tuned")
def test_moved_tree(tmp_path: Path) -> None:
    shutil.move(tmp_path / "tree", tmp_path / "elsewhere")
    assert names(lineage(tmp_path / "elsewhere" / "artifacts" / "tuned")) == WHOLE


def test_artifacts_moved_without_the_data(tuned: Path, tmp_path: Path) -> None:
    # the relative path leads nowhere now, but the path as typed still does
    shutil.move(tuned.parent, tmp_path / "deep" / "down" / "artifacts")
    moved = tmp_path / "deep" / "down" / "artifacts" / "tuned"
    assert names(lineage(moved)) == WHOLE


def test_renamed_parent_is_found_by_content(tuned: Path) -> None:
    (tuned.parent / "base").rename(tuned.parent / "base-v1")
    assert names(lineage(tuned))[1] == "base-v1:ok"
    make(tuned.parent / "base", "model", "pretrain", {}, seed=9)  # something else took its name
    assert names(lineage(tuned))[1] == "base-v1:ok"


def test_missing_parent_keeps_its_recorded_hash(tuned: Path) -> None:
    digest = content_hash(tuned.parent / "base")
    shutil.rmtree(tuned.parent / "base")
    node = lineage(tuned).parents[0]
    assert (node.status, node.content_hash, node.path, node.parents) == ("missing", digest, "base", [])


def test_parent_made_anew_is_changed_and_its_chain_is_not_ours(tuned: Path) -> None:
    digest = content_hash(tuned.parent / "base")
    make(tuned.parent / "base", "model", "pretrain", {}, seed=9)
    node = lineage(tuned).parents[0]
    assert (node.status, node.content_hash, node.stage, node.parents) == ("changed", digest, None, [])


def test_changed_data(tuned: Path) -> None:
    append(tuned.parents[1] / "data" / "text.txt", "more")
    assert "text.txt:changed" in names(lineage(tuned))


def test_flipped_bit_shows_with_check(tuned: Path) -> None:
    weights = tuned.parent / "base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert names(lineage(tuned)) == WHOLE
    assert names(lineage(tuned, check=True))[1] == "base:changed"


def test_root_changed(tuned: Path) -> None:
    recorded = lineage(tuned).content_hash
    append(tuned / "config.json", " ")
    root = lineage(tuned)
    assert (root.status, root.content_hash) == ("changed", recorded)


def test_damaged_parent(tuned: Path) -> None:
    (tuned.parent / "base" / "nano2.json").write_text("{")
    node = lineage(tuned).parents[0]
    assert (node.status, node.parents) == ("damaged", [])
    with pytest.raises(ArtifactError, match="not JSON"):
        lineage(tuned.parent / "base")


def test_foreign_checkpoint_is_a_leaf(tmp_path: Path) -> None:
    foreign = tmp_path / "released"
    shutil.copytree(make(tmp_path / "source", "model", "pretrain", {}), foreign)
    (foreign / "nano2.json").unlink()
    root = lineage(make(tmp_path / "tuned", "model", "sft", {"model": foreign}, seed=2))
    node = root.parents[0]
    assert (node.status, node.kind, node.stage, node.parents) == ("ok", "model", None, [])
    assert lineage(foreign).stage is None


def test_chain_that_meets_itself_ends(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "model", "pretrain", {})
    out = make(tmp_path / "same", "model", "merge", {"model": base})
    shutil.rmtree(base)
    shutil.move(out, base)  # an output with its input's content, moved over it
    assert content_hash(base) == json.loads((base / "nano2.json").read_text())["parents"][0]["content_hash"]
    assert names(lineage(base)) == ["base:ok", "base:ok"]


def test_a_file_within_an_artifact_leads_to_what_made_it(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some text")
    problems = make(tmp_path / "problems", "dataset", "data synth", {"data": text})
    tuned = make(tmp_path / "tuned", "model", "sft", {"data": problems / "dataset.json"}, seed=2)
    (file,) = lineage(tuned).parents
    (made,) = file.parents
    assert (file.kind, file.stage, file.status) == ("data", None, "ok")
    assert (made.kind, made.stage, Path(made.path).name, made.status) == (
        "dataset",
        "data synth",
        "problems",
        "ok",
    )
    assert [Path(node.path).name for node in made.parents] == ["text.txt"]


def test_a_file_beside_the_content_of_an_artifact_is_a_leaf(tmp_path: Path) -> None:
    problems = make(tmp_path / "problems", "dataset", "data synth", {})
    (problems / "mine.jsonl").write_text("{}")
    changed = problems / "dataset.json"
    changed.write_text('{"seed": 7}')
    tuned = make(tmp_path / "tuned", "model", "sft", {"one": problems / "mine.jsonl", "two": changed}, seed=2)
    assert [node.parents for node in lineage(tuned).parents] == [[], []]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        lineage(tmp_path / "nothing")
