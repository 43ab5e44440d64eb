"""Relevance propagation through attention, shared among query, key and value.

Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek, ICML 2024, arXiv 2402.05602.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._lrp.backward import shared_attention_gradient
from attnguide.methods._sampling import patch_sums
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 4.5  # 2 forwards, 1 backward
SUM = "logit"  # what a map would sum to without biases: `evaluation.sanity`


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), signed: normalised pixels times their edited gradient, summed per patch.

    As `cp_lrp`, but queries and keys take part: they get a quarter of their gradient each, values
    a half.

    Raises:
        ValueError: a part of the network for which there is no rule.
    """
    return patch_sums(trace, trace.images * shared_attention_gradient(trace))
