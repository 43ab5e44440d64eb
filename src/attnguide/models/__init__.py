"""Networks with all that belongs to their weights: loading, preprocessing, adapters."""
