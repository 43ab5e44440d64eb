"""Layer-wise relevance propagation through plain timm vision transformers."""
