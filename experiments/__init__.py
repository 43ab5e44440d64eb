"""One file per experiment: what a figure shows, claims and measures."""
