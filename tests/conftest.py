"""What tests share: real inputs where they are, one thread, a small random model."""

from pathlib import Path

import pytest
import torch
from tiny import tiny


@pytest.fixture(scope="session")
def shared():
    """Folder of real weights, pictures and reference arrays, beside the project."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "assets").is_dir():
        pytest.skip("no ../shared beside the project: real weights and reference arrays are there")
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny_vit():
    """Two random layers, 4 x 4 patches, 5 classes; the same in every test."""
    return tiny()
