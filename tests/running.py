"""Runs in this process: commands composed as `run.py` does it, and what they leave compared."""

import io
import json
from copy import deepcopy
from functools import cache, reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict
from PIL import Image

import run as program
from attnguide.runs.main import as_values
from attnguide.runs.run import run
from attnguide.store.table import read

CONF = program.CONF
EXPERIMENTS = sorted(
    path.stem for path in (CONF / "experiment").glob("*.yaml") if path.stem != "all_figures"
)


GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()}
PARSER = OverridesParser.create()


@cache  # Hydra takes longer than a small run
def _composed(words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return as_values(cfg)


def config(*words):
    """The composed config of a command line, plain values; settings may stand in no yaml.

    Hydra composes the choices, once; it parses each setting, which is set here.
    """
    words = [word.lstrip("+") for word in words]
    chosen = [word for word in words if word.partition("=")[0] in GROUPS or word[0] == "~"]
    made = deepcopy(_composed(tuple(chosen)))
    for word in words:
        if word not in chosen:
            setting = PARSER.parse_override(word)
            *path, last = setting.key_or_group.split(".")
            node = reduce(lambda inside, name: inside.setdefault(name, {}), path, made)
            node[last] = _merged(node.get(last), setting.value())
    return made


def _merged(old, new):
    """A value in the place of another, as OmegaConf puts it there."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old.get(key), value) for key, value in new.items()}
    return new


def keys(words):
    """What the words set, as `run.py` tells a run."""
    return [word.lstrip("+~").partition("=")[0] for word in words]


def start(run_dir, *words, sweep=False):
    """Do what the command says, in this process."""
    made = config(*words)
    made["run_dir"] = made["run_dir"] or str(run_dir)
    if any(word.startswith("run_dir=") for word in words):
        run_dir = Path(made["run_dir"])
    run(made, keys(words), Path(run_dir), sweep=sweep)
    return Path(run_dir)


def table_of(run_dir, name="summary"):
    return pd.read_csv(Path(run_dir) / f"{name}.csv")


def provenance(run_dir):
    return json.loads((Path(run_dir) / "provenance.json").read_text())


def load_maps(run_dir):
    """The raw maps by name."""
    with np.load(Path(run_dir) / "maps.npz", allow_pickle=False) as maps:
        return {name: maps[name] for name in maps.files}


def assert_same_rows(one, other, *, rtol=2e-3, atol=1e-5):
    """The tables of two runs are the same."""
    assert_same_tables(read(one), read(other), rtol=rtol, atol=atol)


def assert_same_tables(one, other, *, rtol=2e-3, atol=1e-5):
    """The same columns and rows in the same order, numbers up to how batches round."""
    assert list(one.columns) == list(other.columns)
    assert len(one) == len(other)
    for name in one.columns:
        first, second = one[name], other[name]
        assert (first.isna() == second.isna()).all(), name
        first, second = first.dropna().tolist(), second.dropna().tolist()
        if first and isinstance(first[0], float):
            np.testing.assert_allclose(first, second, rtol=rtol, atol=atol, err_msg=name)
        elif first and isinstance(first[0], bytes):
            for mine, theirs in zip(first, second, strict=True):
                for a, b in zip(_arrays(mine), _arrays(theirs), strict=True):
                    close = {"rtol": rtol, "atol": atol * max(1.0, float(np.abs(a).max()))}
                    np.testing.assert_allclose(a, b, err_msg=name, **close)
        else:
            assert first == second, name


def assert_same_findings(one, other, *, rtol=2e-3, atol=1e-4):
    """The same summary, claims, sentences but for digits, maps and pictures."""
    for name in ("summary", "claims"):
        mine, theirs = table_of(one, name), table_of(other, name)
        pd.testing.assert_frame_equal(mine, theirs, rtol=rtol, atol=atol)
    for name in ("maps.npz", "animation.gif"):
        assert (one / name).is_file() == (other / name).is_file(), name
    if (one / "maps.npz").is_file():
        mine, theirs = load_maps(one), load_maps(other)
        assert list(mine) == list(theirs)
        for key, relevance in mine.items():
            size = float(np.abs(relevance).max())
            np.testing.assert_allclose(relevance, theirs[key], rtol=rtol, atol=size * atol)
    mine, theirs = ({p.name: p for p in (d / "pictures").glob("*")} for d in (one, other))
    assert set(mine) == set(theirs)
    for name, path in mine.items():
        with Image.open(path) as a, Image.open(theirs[name]) as b:
            assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1, name


def _arrays(data):
    """Arrays of an npz, or the map that bytes are."""
    if data[:2] == b"PK":
        with np.load(io.BytesIO(data), allow_pickle=False) as opened:
            return [opened[name] for name in opened.files]
    return [np.frombuffer(data, "<f4")]


def near(value):
    """What was stored, up to what another machine may round otherwise."""
    return pytest.approx(value, rel=0.02, abs=0.005)


def one(table, **where):
    """The only row with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]
