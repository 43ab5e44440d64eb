"""Who hears of a run besides its files: nobody (`Files`), or Weights and Biases (`WandB`)."""

from attnguide.tracking.loggers import Files, Logger, RunLogger, WandB

__all__ = ["Files", "Logger", "RunLogger", "WandB"]
