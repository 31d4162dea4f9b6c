"""A plan that says what OUT takes is compared with the space that is free there."""

import shutil
from pathlib import Path

from stages.common.disk import with_free_space
from stages.common.plan import Plan


def test_room_is_said(tmp_path: Path) -> None:
    plan = with_free_space(Plan(title="x", disk_bytes=1), tmp_path / "new" / "out")
    assert plan.refusals == []
    assert 0 < int(plan.sections["Disk"]["free_bytes"]) <= shutil.disk_usage(tmp_path).total


def test_no_room_is_refused(tmp_path: Path) -> None:
    plan = with_free_space(
        Plan(title="x", disk_bytes=1 << 62, refusals=["another"]), tmp_path / "new" / "out"
    )
    assert plan.refusals[0] == "another"
    assert plan.refusals[1].startswith(f"{tmp_path / 'new' / 'out'} takes ")
    assert f"and {tmp_path} has " in plan.refusals[1]


def test_nothing_is_said_of_plans_that_do_not_know(tmp_path: Path) -> None:
    plan = Plan(title="x")
    assert with_free_space(plan, tmp_path / "out") == plan
