"""What only a run on ranks needs is not imported by others: FSDP2 and DTensor take a second."""

import subprocess
import sys

from tests.nano2cli.conftest import ENVIRONMENT

PROGRAM = """
import sys
import model.hybrid, model.loading, stages.common.training.optimizer, stages.common.training.team
print([name for name in sys.modules if name.startswith(("torch.distributed.fsdp", "torch.distributed.tensor"))])
"""


def test_a_model_is_loaded_and_trained_without_them() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout[:500] + done.stderr[-500:]
