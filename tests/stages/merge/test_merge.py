"""`nano2 merge` through the harness, on real files: what comes out, and what is refused."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from model.artifact.hashing import content_hash
from model.artifact.lineage import lineage
from model.artifact.provenance import Provenance, write_provenance
from model.artifact.sharding import WEIGHTS_FILE
from model.artifact.weights import CheckpointFiles, save_weights
from model.errors import ArtifactError
from model.loading import load
from stages.common.stage import StageOutcome
from stages.merge.config import MergeConfig
from stages.merge.stage import STAGE
from tests.stages.merge.helpers import make_model, merge, weights_of

BF16 = torch.bfloat16
LAST = "lm_head.weight"


@pytest.fixture(scope="module")
def halves(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models in bfloat16."""
    folder = tmp_path_factory.mktemp("models")
    one, other = (make_model(folder / str(seed), tokenizer_directory, seed, BF16) for seed in (2, 3))
    return one, other


class TestLinear:
    @pytest.mark.parametrize("weights", ["1 1", "3 7", "0.1 0.2"])
    def test_a_model_with_itself_is_it_to_the_byte(self, a: Path, tmp_path: Path, weights: str) -> None:
        merge(tmp_path / "out", *(f"{a}:{weight}" for weight in weights.split()))
        assert content_hash(tmp_path / "out") == content_hash(a)

    def test_and_in_bfloat16_with_slerp(self, halves: tuple[Path, Path], tmp_path: Path) -> None:
        merge(tmp_path / "out", halves[0], halves[0], method="slerp", alpha=0.3)
        assert content_hash(tmp_path / "out") == content_hash(halves[0])

    def test_float64_arithmetic_rounded_to_the_dtype(
        self, a: Path, b: Path, halves: tuple[Path, Path], tmp_path: Path
    ) -> None:
        for name, one, other in (("fp32", a, b), ("bf16", *halves)):
            merge(tmp_path / name, f"{one}:1", f"{other}:3")
            mine, theirs, merged = weights_of(one), weights_of(other), weights_of(tmp_path / name)
            assert set(merged) == set(mine)
            for key, tensor in merged.items():
                expected = (0.25 * mine[key].double() + 0.75 * theirs[key].double()).to(mine[key].dtype)
                assert torch.equal(tensor, expected), key

    def test_three_models_and_weights_as_they_are(
        self, a: Path, b: Path, tokenizer_directory: Path, tmp_path: Path
    ) -> None:
        c = make_model(tmp_path / "c", tokenizer_directory, 4)
        outcome = merge(tmp_path / "out", f"{a}:0.5", f"{b}:1", f"{c}:0.25", normalize=False)
        merged = weights_of(tmp_path / "out")
        for key, tensor in merged.items():
            parts = [weights_of(each)[key].double() for each in (a, b, c)]
            assert torch.equal(tensor, (0.5 * parts[0] + parts[1] + 0.25 * parts[2]).float()), key
        assert outcome.result.metrics["weight_3"] == 0.25

    def test_alpha_is_the_share_of_the_second(self, a: Path, b: Path, tmp_path: Path) -> None:
        merge(tmp_path / "shared", a, b, alpha=0.3)
        merge(tmp_path / "weighted", f"{a}:0.7", f"{b}:0.3")
        merge(tmp_path / "second", a, b, alpha=1)
        assert content_hash(tmp_path / "shared") == content_hash(tmp_path / "weighted")
        assert content_hash(tmp_path / "second") == content_hash(b)

    @pytest.mark.parametrize(
        ("given", "settings", "used"),
        [
            (("", ""), {"alpha": 0.25}, [0.75, 0.25]),
            (("", ""), {"alpha": 0.25, "method": "slerp"}, [0.75, 0.25]),
            ((":3", ":1"), {}, [0.75, 0.25]),
            ((":3", ":1"), {"normalize": False}, [3, 1]),
        ],
    )
    def test_the_lineage_has_the_weights_that_were_used(
        self,
        a: Path,
        b: Path,
        tmp_path: Path,
        given: tuple[str, str],
        settings: dict[str, Any],
        used: list[float],
    ) -> None:
        merge(
            tmp_path / "out",
            *(f"{model}{weight}" for model, weight in zip((a, b), given, strict=True)),
            **settings,
        )
        assert [node.weight for node in lineage(tmp_path / "out").parents] == used


def test_slerp_is_taken_over_whole_tensors(
    a: Path, b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces much smaller than the tensors, with the angle of the whole."""
    monkeypatch.setattr("stages.merge.merging.PIECE", 100)
    merge(tmp_path / "out", a, b, alpha=0.25, method="slerp")
    mine, theirs = weights_of(a), weights_of(b)
    for key, tensor in weights_of(tmp_path / "out").items():
        one, other = mine[key].double(), theirs[key].double()
        angle = math.acos(float((one * other).sum() / (one.norm() * other.norm())))
        expected = (math.sin(0.75 * angle) * one + math.sin(0.25 * angle) * other) / math.sin(angle)
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-6, atol=1e-9)


class TestDtypes:
    def test_mixed_models_get_the_wider(self, a: Path, halves: tuple[Path, Path], tmp_path: Path) -> None:
        merge(tmp_path / "out", halves[0], a)
        merged = weights_of(tmp_path / "out")
        assert {tensor.dtype for tensor in merged.values()} == {torch.float32}
        assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
        expected = (0.5 * weights_of(halves[0])[LAST].double() + 0.5 * weights_of(a)[LAST].double()).float()
        assert torch.equal(merged[LAST], expected)

    def test_each_tensor_keeps_its_own(self, halves: tuple[Path, Path], tmp_path: Path) -> None:
        """As checkpoints are that keep A_log in float32."""
        mixed = Path(shutil.copytree(halves[0], tmp_path / "mixed"))
        tensors = {
            key: tensor.float() if key.endswith("A_log") else tensor
            for key, tensor in weights_of(mixed).items()
        }
        save_file(tensors, mixed / "model.safetensors", metadata={"format": "pt"})
        merge(tmp_path / "out", mixed, mixed)
        assert content_hash(tmp_path / "out") == content_hash(mixed)

    def test_the_one_that_is_asked_for(self, a: Path, b: Path, tmp_path: Path) -> None:
        merge(tmp_path / "out", a, b, dtype="bfloat16")
        merged = weights_of(tmp_path / "out")
        expected = (0.5 * weights_of(a)[LAST].double() + 0.5 * weights_of(b)[LAST].double()).to(BF16)
        assert torch.equal(merged[LAST], expected)
        assert load(tmp_path / "out").lm_head.weight.dtype == BF16

    def test_one_of_too_little_range(self, a: Path, tmp_path: Path) -> None:
        large = edited(a, tmp_path / "large", lambda tensors: tensors.update({LAST: tensors[LAST] + 1e6}))
        with pytest.raises(ArtifactError, match=r"tensor lm_head\.weight exceeds the range of float16"):
            merge(tmp_path / "out", large, large, dtype="float16")


def test_shards_and_keys_as_other_programs_write_them(a: Path, b: Path, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(a, tmp_path / "foreign"))
    (foreign / "model.safetensors").unlink()
    renamed = {key.replace("backbone.", "model.", 1): tensor for key, tensor in weights_of(a).items()}
    save_weights({**renamed, "mtp.head": torch.zeros(3)}, foreign, max_shard_bytes=100_000)
    assert len(CheckpointFiles(foreign).files) > 1
    merge(tmp_path / "out", foreign, b)
    merge(tmp_path / "plain", a, b)
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "plain")


def test_what_is_recorded(a: Path, b: Path, tmp_path: Path) -> None:
    outcome = merge(tmp_path / "out", f"{a}:1", f"{b}:3")
    recorded = json.loads((tmp_path / "out" / "nano2.json").read_text())
    assert [parent["weight"] for parent in recorded["parents"]] == [0.25, 0.75]
    assert recorded["metrics"]["weight_1"] == 0.25
    assert recorded["metrics"]["parameters"] == sum(t.numel() for t in weights_of(a).values())
    assert not outcome.up_to_date
    assert merge(tmp_path / "out", f"{a}:1", f"{b}:3").up_to_date


class TestPlan:
    def plan(self, out: Path | None = None, **settings: Any) -> Any:
        return STAGE.call_plan(MergeConfig.model_validate(settings), out)

    def test_it_tells_what_is_read_and_written(self, a: Path, b: Path, tmp_path: Path) -> None:
        size = CheckpointFiles(a).total_bytes
        files = self.plan(model=[a, b]).sections["Files"]
        assert files == {"read_bytes": 2 * size, "written_bytes": size}
        plan = self.plan(tmp_path / "out", model=[a, b], method="slerp", dtype="bfloat16")
        assert plan.sections["Files"] == {"read_bytes": 4 * size, "written_bytes": size // 2}
        assert plan.disk_bytes == size // 2
        assert plan.sections["Disk"]["free_bytes"] > 0

    def test_what_nano2_recorded_is_read_once_more(self, a: Path, tmp_path: Path) -> None:
        recorded = Path(shutil.copytree(a, tmp_path / "recorded"))
        write_provenance(recorded, Provenance(kind="model", stage="sft"))
        size = CheckpointFiles(a).total_bytes
        assert self.plan(model=[a, recorded]).sections["Files"]["read_bytes"] == 3 * size

    def test_models_that_do_not_fit_are_refused(self, a: Path, tmp_path: Path) -> None:
        other = with_config(a, tmp_path / "other", mamba_head_dim=32)
        with pytest.raises(ArtifactError, match="mamba_head_dim"):
            self.plan(model=[a, other])


def edited(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A copy with other weights."""
    shutil.copytree(source, target)
    tensors = weights_of(source)
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def with_config(source: Path, target: Path, **changes: object) -> Path:
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


class TestRefusals:
    def refused(self, tmp_path: Path, *models: Path, **settings: Any) -> ArtifactError:
        """What is said; nothing is left."""
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ArtifactError) as caught:
            merge(tmp_path / "out", *models, **settings)
        assert sorted(tmp_path.iterdir()) == before
        assert caught.value.remedy
        return caught.value

    def test_another_shape(self, a: Path, tmp_path: Path) -> None:
        other = with_config(a, tmp_path / "other", intermediate_size=64)
        error = self.refused(tmp_path, a, other)
        assert error.what == f"is another model: intermediate_size is 56 in {a} and 64 in {other}"

    def test_the_first_difference_of_several_and_of_the_third(self, a: Path, b: Path, tmp_path: Path) -> None:
        other = with_config(
            a, tmp_path / "other", layer_norm_epsilon=1e-3, hybrid_override_pattern="MM", layers_block_type=None,
            num_hidden_layers=2,
        )  # fmt: skip
        path = other / "config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if v is not None}))
        error = self.refused(tmp_path, a, b, other)
        assert f"pattern is 'M-M*-' in {a} and 'MM' in {other}" in error.what

    def test_settings_of_fresh_weights_do_not_matter(self, a: Path, tmp_path: Path) -> None:
        other = with_config(a, tmp_path / "other", initializer_range=0.5, time_step_max=0.2)
        merge(tmp_path / "out", a, other)
        assert content_hash(tmp_path / "out" / WEIGHTS_FILE) == content_hash(a / WEIGHTS_FILE)

    def test_another_tokenizer(self, a: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(a, tmp_path / "other"))
        path = other / "tokenizer.json"
        content = json.loads(path.read_text())
        content["model"]["vocab"]["a"], content["model"]["vocab"]["b"] = 97, 96
        path.write_text(json.dumps(content))
        error = self.refused(tmp_path, a, other)
        assert f"model: vocab: a is 96 in {a} and 97 in {other}" in error.what

    def test_another_chat_template(self, a: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(a, tmp_path / "other"))
        path = other / "chat_template.jinja"
        path.write_text("{# mine #}\n" + path.read_text())
        error = self.refused(tmp_path, a, other)
        assert "line 1 of the chat template is " in error.what
        assert f'and "{{# mine #}}" in {other}' in error.what

    def test_a_missing_tensor(self, a: Path, tmp_path: Path) -> None:
        other = edited(a, tmp_path / "other", lambda tensors: tensors.pop(LAST))
        error = self.refused(tmp_path, a, other)
        assert error.where == str(other)
        assert error.what == "tensor lm_head.weight is missing"

    def test_a_tensor_of_another_shape(self, a: Path, tmp_path: Path) -> None:
        other = edited(a, tmp_path / "other", lambda tensors: tensors.update({LAST: tensors[LAST][:-1]}))
        error = self.refused(tmp_path, a, other)
        assert error.where == str(other)
        assert "lm_head.weight has shape [" in error.what

    @pytest.mark.parametrize("method", ["linear", "slerp"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_weights_that_are_not_finite(self, a: Path, tmp_path: Path, value: float, method: str) -> None:
        other = edited(a, tmp_path / "other", lambda tensors: tensors[LAST].view(-1)[-1:].fill_(value))
        error = self.refused(tmp_path, a, other, method=method)
        assert error.where == str(other / "model.safetensors")
        assert "tensor lm_head.weight holds 1 NaN or infinite values" in error.what

    def test_even_of_a_model_whose_weight_is_zero(self, a: Path, tmp_path: Path) -> None:
        other = edited(a, tmp_path / "other", lambda tensors: tensors[LAST].view(-1)[:1].fill_(math.nan))
        with pytest.raises(ArtifactError, match="NaN"):
            merge(tmp_path / "out", a, other, alpha=0)

    def test_a_truncated_file(self, a: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(a, tmp_path / "other"))
        path = other / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        error = self.refused(tmp_path, a, other)
        assert error.where == str(path)
        assert "cut short" in error.what

    def test_a_file_that_is_not_what_was_recorded(self, a: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(a, tmp_path / "other"))
        write_provenance(other, Provenance(kind="model", stage="sft"))
        path = other / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert "sha256" in self.refused(tmp_path, a, other).what

    def test_a_reward_model_and_a_tokenizer(self, a: Path, tokenizer_directory: Path, tmp_path: Path) -> None:
        reward = Path(shutil.copytree(a, tmp_path / "reward"))
        write_provenance(reward, Provenance(kind="reward", stage="reward"))
        error = self.refused(tmp_path, a, reward)
        assert error.where == str(reward)
        assert "score head" in error.what
        assert "kind 'tokenizer'" in self.refused(tmp_path, tokenizer_directory, a).what

    def test_a_model_that_is_not_there(self, a: Path, tmp_path: Path) -> None:
        assert "no such file" in self.refused(tmp_path, a, tmp_path / "gone").what
        config = MergeConfig.model_validate({"model": [a, tmp_path / "gone"]})
        with pytest.raises(ArtifactError, match="gone: does not exist"):
            STAGE.call_plan(config)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": ["a"]}, "at least 2"),
        ({"model": ["a", "b", "c"], "alpha": 0.5}, "alpha is for two models, and there are 3"),
        ({"model": ["a", "b", "c"], "method": "slerp"}, "slerp is for two models"),
        ({"model": ["a:0.2", "b"], "alpha": 0.5}, "alpha takes the place of weights"),
        ({"model": ["a", "b"], "alpha": 0.5, "normalize": False}, "without alpha"),
        ({"model": ["a", "b"], "alpha": 1.5}, "less than or equal to 1"),
        ({"model": ["a:-1", "b"]}, "positive"),
        ({"model": ["a", "b"], "alphas": "0,1"}, "give both"),
        ({"model": ["a", "b"], "tasks": "x"}, "give both"),
        ({"model": ["a", "b"], "alphas": "0,1,0", "tasks": "x"}, "named twice"),
        ({"model": ["a", "b"], "alphas": "0,1", "alpha": 0.5, "tasks": "x"}, "exclude each other"),
        ({"model": ["a", "b"], "limit": 7}, "limit is for the evaluation of a sweep"),
        ({"model": ["a", "b"], "best_by": ["x/acc"]}, "best_by is for the evaluation"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MergeConfig.model_validate(settings)


def test_the_settings_of_a_finished_merge_are_settings(a: Path, b: Path, tmp_path: Path) -> None:
    """As a replay gives them, every one written out."""
    outcome: StageOutcome = merge(tmp_path / "out", a, b, alpha=0.5)
    assert outcome.out is not None
    recorded = json.loads((outcome.out / "nano2.json").read_text())["config"]
    models = [{"path": str(path), "weight": 1.0} for path in (a, b)]
    assert MergeConfig.model_validate(recorded | {"model": models}).alpha == 0.5
