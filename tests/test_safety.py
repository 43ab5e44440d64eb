"""A config is data: it calls nothing, loads no code, and writes nowhere but in its run."""

import ast
import re
import tomllib
from pathlib import Path

import hydra
import pytest
import torch
from packaging.requirements import Requirement
from packaging.version import Version

import run
from attnguide.config import Config, check
from attnguide.evaluation.explained import picture_file
from attnguide.models.load import load_model
from attnguide.runs.commandline import check_words, folder_name

ROOT = Path(__file__).resolve().parents[1]
FIG12 = "experiment=fig12_perturbation"
SOURCES = [ROOT / "run.py", *(p for d in ("src", "experiments") for p in (ROOT / d).rglob("*.py"))]
RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "os.system", "pickle.load", "pickle.loads",
    "pd.read_pickle", "pandas.read_pickle", "joblib.load", "yaml.load", "yaml.unsafe_load",
    "hydra.utils.instantiate", "instantiate", "dill.load", "dill.loads", "cloudpickle.loads",
}  # fmt: skip
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def dangers(text):
    """Calls that would run what a file or a config says."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        key, value = NEEDED.get(name, ("shell", given.get("shell")))
        if name in RUNS_CODE or given.get("shell") or given.get(key) != value:
            yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_says(path):
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "pickle.load(f)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "eval(word)",
        "hydra.utils.instantiate(cfg)",
    ],
)
def test_what_would_run_code_is_seen(text):
    assert list(dangers(text))
    assert not list(dangers("torch.load(p, weights_only=True); np.load(p, allow_pickle=False)"))


def test_a_checkpoint_that_is_a_program_is_refused(tmp_path):
    class Program:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"head.weight": Program()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="w.pth"):
        load_model("vit_tiny_patch16_224", tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "word",
    [
        "+runner.x._target_=os.system",
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x={_target_: os.system}",
        "hydra.searchpath=[pkg://x]",
        "+hydra.job_logging.handlers.x={'()': os.system}",
    ],
)
def test_words_that_call_are_refused(word):
    with pytest.raises(ValueError, match="is not accepted; settings are names and numbers"):
        check_words([FIG12, word], run.CONF)


@pytest.mark.parametrize("flag", [["--config-dir", "{}"], ["-cp", "{}"], ["--config-path={}"]])
def test_folders_of_configs_that_call_are_refused(flag, tmp_path):
    words = [FIG12, *(word.format(tmp_path) for word in flag)]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: vit_tiny_patch16_224\n")
    assert check_words(words, run.CONF)
    (tmp_path / "model" / "evil.yaml").write_text("hydra:\n  x: {_target_: os.system}\n")
    with pytest.raises(ValueError, match=r"evil.yaml holds `_target_`, which would run code"):
        check_words(words, run.CONF)


@pytest.mark.parametrize(
    "settings",
    [
        {"runner": {"_target_": "os.system"}},
        {"runner": {"x": {"_target_": "os.system"}}},
        {"method": {"gae": {"_partial_": True}}},
    ],
)
def test_configs_that_call_are_refused(settings):
    with pytest.raises(ValueError, match="is not accepted; settings are names and numbers"):
        check(Config(**settings))


def test_hydra_itself_refuses_programs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [bound] = [Requirement(text) for text in project["dependencies"] if "hydra-core" in text]
    assert Version("1.3.4") in bound.specifier  # the first that was seen to refuse
    assert Version("1.3.3") not in bound.specifier
    with pytest.raises(hydra.errors.InstantiationException, match=r"(?s)os\.system|posix"):
        hydra.utils.instantiate({"_target_": "os.system", "_args_": ["true"]})


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/../../b", "C:\\x", "x\x00y"])
def test_no_name_leaves_the_run(name, tmp_path):
    for path in (
        picture_file(tmp_path, "shown", name),
        tmp_path / folder_name([f"guide.image={name}"], 0),
    ):
        inside = path.resolve().relative_to(tmp_path)
        assert not re.search(r"[/\\\0]", inside.name)
        assert len(inside.parts) <= 2
