"""The loss of a reward model: Bradley-Terry, each pair weighted by its strength.

Shapes: P pairs, the last dimension of 2 is (chosen, rejected).
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def ranking_losses(scores_P2: Tensor, strength_P: Tensor) -> Tensor:
    """[P]: strength * -log sigmoid(chosen - rejected), the scaled form of HelpSteer2-Preference (arXiv 2410.01257)."""
    return -strength_P * logsigmoid(scores_P2[:, 0] - scores_P2[:, 1])
