"""W&B is a mirror: it never asks, never blocks, and is offline where it must be."""

import time

import pandas as pd
import pytest
from matplotlib.figure import Figure

from attnguide.config import LoggerConfig
from attnguide.findings import Findings
from attnguide.loggers import open_logger

FINDINGS = Findings(Figure(), pd.DataFrame({"auc": [48.0]}), "A caption.", ("Found.",))


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No key, no settings of the person who runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.slow  # W&B's own process may write after finish() has returned, on a busy machine late
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_key_a_run_is_logged_offline_with_one_warning(tmp_path):
    with (
        pytest.warns(UserWarning, match="no key here, so this run is logged offline") as told,
        open_logger(LoggerConfig("wandb"), tmp_path, {"experiment": "fig12"}) as logger,
    ):
        logger.log(FINDINGS)
    assert len([w for w in told if w.category is UserWarning]) == 1
    [stored] = (tmp_path / "wandb").glob("offline-run-*/run-fig12-*.wandb")
    deadline = time.monotonic() + 60
    while b"summary" not in stored.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    media = [path.parent.name for path in stored.parent.rglob("media/**/*") if path.is_file()]
    assert sorted(media) == ["images", "table"]


def test_files_hear_nothing_more(tmp_path):
    with open_logger(LoggerConfig("files"), tmp_path, {}) as logger:
        logger.log(FINDINGS)
    assert list(tmp_path.iterdir()) == []
