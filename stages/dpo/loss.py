"""The losses of direct preference optimization (arXiv 2305.18290), as functions of log-probabilities alone.

Shapes: P pairs, the last dimension of 2 is (chosen, rejected). Log-probabilities are sums over an answer's tokens, in nats.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def implicit_rewards(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> Tensor:
    """[P, 2]: beta times how much more likely the policy makes an answer than the reference does."""
    return beta * (policy_P2 - reference_P2)


def preference_losses(rewards_P2: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """[P]: -log sigmoid of the margin; with a share `label_smoothing` of the labels taken to be flipped, the conservative
    form (1 - s) * -log sigmoid(margin) + s * -log sigmoid(-margin).
    """
    margins_P = rewards_P2[:, 0] - rewards_P2[:, 1]
    return -(1 - label_smoothing) * logsigmoid(margins_P) - label_smoothing * logsigmoid(-margins_P)
