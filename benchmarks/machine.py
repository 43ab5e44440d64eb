"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "timm", "openvino", "captum", "quantus", "grad-cam")


def machine() -> str:
    """Processor, cores, accelerator, versions and date, as one Markdown paragraph."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    processor = f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}. {processor}, {os.cpu_count()} cores, {cuda}; Python "
        f"{platform.python_version()}, {versions}."
    )


def load() -> str:
    """Load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if "model name" in line), "processor")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
