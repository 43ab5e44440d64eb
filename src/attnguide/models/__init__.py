"""Networks with all that belongs to their weights: loading, preprocessing, adapters."""

from attnguide.models.sources import HuggingFace, Python, Timm, Torchvision

__all__ = ["HuggingFace", "Python", "Timm", "Torchvision"]
