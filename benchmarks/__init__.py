"""Speed as ratios, side by side in one process on one thread; `make bench`."""
