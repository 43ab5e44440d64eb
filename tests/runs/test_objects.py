"""Objects of a config: made by Hydra, their settings checked against the signature."""

import numpy as np
import pytest
from running import config

from attnguide.errors import InputError
from attnguide.findings import Findings
from attnguide.runs.objects import build, build_logger, check_settings
from attnguide.tracking import Files


class Own:
    """A class of one's own."""

    def __init__(
        self, count: int, share: float = 0.5, names: list[str] | None = None, layer: int = -1
    ):
        self.count, self.share, self.names, self.layer = count, share, names, layer


def whatever(**settings):
    return settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "own.count must be greater than or equal to 0, got -1"),
        ({"count": 10**30}, "own.count must be"),
        ({"count": 1.5}, "own.count must be a valid integer"),
        ({"count": True}, "own.count must be a valid integer"),
        ({"count": "3"}, "own.count must be a valid integer"),
        ({"share": "half"}, "own.share must be a valid number"),
        ({"share": float("nan")}, "own.share must be a finite number"),
        ({"names": "a"}, "own.names must be a valid array"),
        ({"names": [1]}, "own.names.0 must be a valid string"),
        ({"cuont": 1}, "unknown setting of own 'cuont'; did you mean count"),
        ({"cuont": 1, "share": "x", "layer": "y"}, "cuont.*own.share must be.*own.layer must be"),
    ],
)
def test_wrong_settings_are_refused_all_at_once(settings, message):
    with pytest.raises(InputError, match=message):
        check_settings(Own, settings, "own")


def test_right_settings_pass():
    check_settings(Own, {"count": 0, "share": 1, "names": None, "layer": -2}, "own")
    check_settings(Own, {"names": [{"_target_": "made.by.Hydra"}]}, "own")
    check_settings(whatever, {"anything": 1}, "own")


def test_a_node_without_target_says_how_to_choose():
    with pytest.raises(
        InputError, match="model needs a `_target_`, got {}; choose it by model=NAM"
    ):
        build({}, "model")


def test_a_logger_of_lightnings_hears_of_settings_progress_and_summary(tmp_path):
    import pandas as pd
    from matplotlib.figure import Figure

    assert build_logger({"_target_": "attnguide.tracking.Files"}) == Files()
    logger = build_logger(config("logger=csv")["logger"])
    summary = pd.DataFrame(
        {"model": ["m"], "order": [""], "method": ["gae"], "value": [0.25], "n": [3]}
    )
    with logger.open(tmp_path, {"seed": 3}) as tracker:
        tracker.progress("m", 4, 2.0)
        tracker.log(Findings(Figure(), summary, "Nothing."))
    folder = tmp_path / "logger" / "version_0"
    table = pd.read_csv(folder / "metrics.csv")
    assert table["m/images"].dropna().tolist() == [4]
    assert table["m/gae/value"].dropna().tolist() == [0.25]
    assert "seed: 3" in (folder / "hparams.yaml").read_text()
    assert np.isfinite(table["m/gae/n"].dropna()).all()


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow>=1.0.0")]
)
def test_a_logger_that_is_not_installed_is_one_line(name, package, monkeypatch):
    from pytorch_lightning import loggers

    node = config(f"logger={name}")["logger"]
    kind = vars(loggers)[node["_target_"].rpartition(".")[2]]

    def refuse(*_, **__):
        raise ModuleNotFoundError(f"No.\nHINT: Try running `pip install -U '{package}'`")

    monkeypatch.setattr(kind, "__init__", refuse)
    with pytest.raises(
        InputError, match=f"this logger is not installed: `pip install -U '{package}'`"
    ):
        build_logger(node)
