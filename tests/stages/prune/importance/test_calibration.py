import json
from pathlib import Path

import pytest
import torch

from model.errors import ArtifactError
from stages.prune.importance.calibration import Calibration
from tests.stages.prune.miniature_runs import ROWS, packed_rows


def test_each_row_is_read_once(tmp_path: Path) -> None:
    data = packed_rows(tmp_path)
    calibration = Calibration(data, ROWS, 4, seed=3)
    batches = list(calibration.batches(ROWS))
    assert [len(batch.input_ids_BT) for batch in batches] == [4, 4, 2]
    assert calibration.steps(ROWS) == 3
    read = torch.cat([batch.input_ids_BT for batch in batches]).tolist()
    assert sorted(read) == sorted(data.rows([("a", row) for row in range(ROWS)]).input_ids_BT.tolist())
    fewer = torch.cat([batch.input_ids_BT for batch in calibration.batches(6)]).tolist()
    assert fewer == read[:6]


def test_too_few_rows_are_said_with_the_number_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="11 calibration samples take 11 rows of source 'a', which has 10"
    ):
        Calibration(packed_rows(tmp_path), ROWS + 1, 1, seed=0)


def test_the_last_phases_blend_is_read(tmp_path: Path) -> None:
    packed_rows(tmp_path)
    (tmp_path / "sources/b").symlink_to("a")
    path = tmp_path / "dataset.json"
    description = json.loads(path.read_text())
    description["sources"]["b"] = description["sources"]["a"]
    description["phases"] = [{"a": 1.0}, {"a": 1.0}, {"b": 1.0}]
    path.write_text(json.dumps(description))
    from stages.common.config import WeightedPath
    from stages.common.training.batches import TrainingData

    data = TrainingData([WeightedPath(path=tmp_path)])
    with pytest.raises(ArtifactError, match="source 'b', which has 10 \\(10 in all sources\\)"):
        Calibration(data, 11, 1, seed=0)
