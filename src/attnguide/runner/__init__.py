"""The run: what experiments are given, what they give back, and how a run lives."""

from attnguide.findings import Findings
from attnguide.runner.job import Job, Runner

__all__ = ["Findings", "Job", "Runner"]
