"""Experiment trackers: none beside the run's files, or Weights and Biases."""

from attnguide.tracking.loggers import Files, WandB

__all__ = ["Files", "WandB"]
