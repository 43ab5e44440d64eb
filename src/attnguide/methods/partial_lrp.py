"""Partial LRP: the relevance of the last layer's attention, averaged over heads.

Voita et al., ACL 2019, arXiv 1905.09418, as the baseline of Chefer et al., CVPR 2021.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.capture import AttentionTrace
from attnguide.lrp import SEPARATE, descend, record


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), non-negative: mean over heads of the positive relevance of the class row.

    Only the last block is entered; the original descends through all blocks for the same map.

    Raises:
        ValueError: blocks without published relevance rules.
    """
    last = next(descend(trace, record(trace, "partial_lrp"), SEPARATE))
    return trace.on_grid(trace.readout @ last.attention.clamp(min=0).mean(1))
