"""LayerCAM on token features: every feature weighted by its own positive gradient.

Jiang et al., IEEE TIP 2021, doi 10.1109/TIP.2021.3089943, carried over to tokens.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._features import patch_features, positive_evidence
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 2  # 2 forwards, 1 backward from the layer on


def explain(trace: AttentionTrace, *, layer: int = -1) -> Tensor:
    """(B, rows, cols), non-negative: (sum over channels of positive gradient times feature)⁺.

    An image without positive evidence has a map of zeros; a warning counts them.

    Args:
        trace: The shared pass.
        layer: Block whose attention reads the features, negative from the last: the output of its
            `norm1` in a timm Block, patches only.

    Raises:
        ValueError: no such layer, or a block without one attention module.
    """
    features, gradient = patch_features(trace, layer, "layercam")
    return positive_evidence(trace, "layercam", (gradient.clamp(min=0) * features).sum(-1))
