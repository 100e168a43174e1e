"""Semantic token selection by a budget token (arXiv 2405.02330, 2505.17604), in torch.

The sequence is [CLS, patches, budget]; the caller chooses alpha in (0, 1), the fraction to keep.

    budget = alpha t_low + (1 - alpha) t_up
    s_i = sigmoid(w x_i + b),  theta = sigmoid(v x_budget + c),  m_i = relu(s_i - theta)
    x <- Block(x m) m,  patches with m_i <= 1e-3 removed; CLS and budget have m = 1

Every block but the first has a gate in front; what one gate drops is gone for all later ones. b starts at
+5, c at -5, w and v at 0: all is kept. The cut's gate is applied before sending, so that what the next
block would drop is not sent. Our choices, where the papers leave them open:

- Gates are the head's alone. The budget token has done its work at the cut and stays on the device; the tail
  runs on CLS and the patches that came, as it does without gates, and no byte is spent on the token. For the
  same reason patches are sent without the m of the cut's gate, which only chooses.
- alpha = 1 (keep 1) means no gates at all: the plain network, without a budget token.
- The kept *fraction* is held to alpha, not the mean of m: that loss is also met with every token kept at
  m = alpha. The count passes its gradient straight through, as if each token counted the sigmoid of the
  difference of the two logits: a gate has a gradient on both sides of its threshold.
- Dropped tokens are masked as keys in training, with the same straight-through gradient, so that the loss
  says what a token would have been worth. For that they go along unseen and unscaled.
- The reference is the budget token and not the last patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Gates"]

_OPEN, _LOW_THRESHOLD = 5.0, -5.0


class Gates(nn.Module):
    """The budget token's two ends and the depth - 1 gates, the one of block l in row l - 1."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.empty(1, 1, dim))
        self.up = nn.Parameter(torch.empty(1, 1, dim))
        self.w = nn.Parameter(torch.zeros(depth - 1, dim))
        self.b = nn.Parameter(torch.full((depth - 1,), _OPEN))
        self.v = nn.Parameter(torch.zeros(depth - 1, dim))
        self.c = nn.Parameter(torch.full((depth - 1,), _LOW_THRESHOLD))
        # Larger than what blocks add: alpha can still be read off the token after many blocks.
        nn.init.normal_(self.low, std=4.0)
        nn.init.normal_(self.up, std=4.0)

    def budget(self, alpha: Tensor) -> Tensor:
        """The budget tokens (B, 1, d) of alpha (B,)."""
        share = alpha[:, None, None]
        return share * self.low + (1 - share) * self.up

    def logits(self, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Of s (B, k) and of theta (B,) at the gate in front of block `index` in 1..depth-1; x (B, k+2, d)."""
        row = index - 1
        s = (x[:, 1:-1] @ self.w[row][:, None]).squeeze(-1) + self.b[row]
        theta = (x[:, -1] @ self.v[row][:, None]).squeeze(-1) + self.c[row]
        return s, theta

    def forward(self, x: Tensor, index: int) -> Tensor:
        """m = relu(s - theta) (B, k) of the gate in front of block `index`, on tokens (B, k+2, d)."""
        s, theta = self.logits(x, index)
        return (s.sigmoid() - theta.sigmoid()[:, None]).relu()
