"""GradCAM on the last layer's attention: heads weighted by their mean gradient.

Selvaraju et al., ICCV 2017, arXiv 1610.02391, as the baseline of Chefer et al., CVPR 2021.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._features import positive_evidence
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward


def explain(trace: AttentionTrace, *, gradient: str = "plain") -> Tensor:
    """(B, rows, cols), non-negative: (mean over heads of mean gradient times class row)⁺.

    Both means of the gradient and the row are over patches and of the readout's rows. An image
    without positive evidence has a map of zeros (the original's is NaN); a warning counts them.

    Args:
        trace: The shared pass.
        gradient: "plain", or "libra" for LibraGrad's (`tracing.libra`).

    Raises:
        ValueError: another gradient, or a network without a rule for LibraGrad.
    """
    row, slope = (
        (trace.readout @ tensor)[..., trace.vit.num_prefix :]
        for tensor in (trace.attention[-1], trace.with_gradient(gradient).gradient[-1])
    )  # (B, H, P)
    weights = slope.mean(-1, keepdim=True)
    return positive_evidence(trace, "attn_gradcam", (weights * row).mean(1))
