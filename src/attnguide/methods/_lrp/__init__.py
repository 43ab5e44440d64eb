"""Layer-wise relevance propagation through plain timm vision transformers."""

from attnguide.methods._lrp.descent import Step, descend, warn_float32
from attnguide.methods._lrp.record import Record, record
from attnguide.methods._lrp.rules import BALANCED, SEPARATE, Family

__all__ = [
    "BALANCED",
    "SEPARATE",
    "Family",
    "Record",
    "Step",
    "descend",
    "record",
    "warn_float32",
]
