"""What is data calls nothing, loads no code, and is written nowhere but in its run."""

import ast
import re
import tomllib
from pathlib import Path

import hydra
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from attnguide.store.maps import picture_file

ROOT = Path(__file__).resolve().parents[1]
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
    found = list(dangers(path.read_text()))
    if path.name in ("objects.py", "predict.py"):  # what configs name; the trainer
        assert len(found) == 1
        assert "hydra.utils.instantiate" in found.pop()
    assert found == []


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


def test_hydra_itself_refuses_programs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [bound] = [Requirement(text) for text in project["dependencies"] if "hydra-core" in text]
    assert Version("1.3.4") in bound.specifier  # the first that was seen to refuse
    assert Version("1.3.3") not in bound.specifier
    with pytest.raises(hydra.errors.InstantiationException, match=r"(?s)os\.system|posix"):
        hydra.utils.instantiate({"_target_": "os.system", "_args_": ["true"]})


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/../../b", "C:\\x", "x\x00y"])
def test_no_name_of_a_picture_leaves_the_run(name, tmp_path):
    path = picture_file(tmp_path, name)
    inside = path.resolve().relative_to(tmp_path)
    assert not re.search(r"[/\\\0]", inside.name)
    assert len(inside.parts) <= 2
