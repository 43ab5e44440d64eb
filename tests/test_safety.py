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
from attnguide.models.load import load_model
from attnguide.runs.commandline import folder_name, prepare
from attnguide.runs.objects import HOMES, build, find_target
from attnguide.store.maps import picture_file

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
    found = list(dangers(path.read_text()))
    if path.name == "objects.py":  # the one place, which looks at what it is given
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
        "runner={_target_: os.system}",
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x={_target_: os.system}",
        "hydra.searchpath=[pkg://x]",
        "+hydra.job_logging.handlers.x={class: subprocess.Popen}",
        "+hydra.hydra_logging.handlers.x.class=subprocess.Popen",
        "+hydra={job_logging: {}}",
        "+hydra.callbacks.x.y=1",
    ],
)
def test_words_that_call_are_refused(word):
    with pytest.raises(ValueError, match=r"is not accepted[;:]"):
        prepare([FIG12, word], run.CONF)


def test_a_quoted_factory_is_no_word_of_hydras():
    with pytest.raises(hydra.errors.OverrideParseException):
        prepare([FIG12, "+hydra.job_logging.handlers.x={'()': os.system}"], run.CONF)


FLAGS = [
    *(["--config-dir", "{}"], ["-cd", "{}"], ["--config-dir={}"], ["--config-d", "{}"]),
    *(["--config-path", "{}"], ["-cp", "{}"], ["--config-path={}"], ["--config-p={}"]),
]


@pytest.mark.parametrize("flag", FLAGS, ids=" ".join)
def test_folders_of_configs_that_call_are_refused_however_they_are_named(flag, tmp_path):
    words = [FIG12, *(word.format(tmp_path) for word in flag)]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: vit_tiny_patch16_224\n")
    assert prepare(words, run.CONF)
    (tmp_path / "model" / "evil.yaml").write_text("x: {_target_: os.system}\n")
    with pytest.raises(ValueError, match=r"evil.yaml holds `_target_: os.system`, which would run"):
        prepare(words, run.CONF)


EVIL = {
    "escaped": '"_targ\\u0065t_": os.system\n',
    "tagged": "? !!str _target_\n: os.system\n",
    "in a list": "a: [1, {b: [{_target_: os.system}]}]\n",
    "interpolated": "_target_: ${oc.env:X}\n",
    "anchored": "a: &a {_target_: os.system}\nb: *a\n",
    "merged": "a: &a\n  _target_: os.system\nb:\n  <<: *a\n",
    "logging": "handlers: {x: {class: subprocess.Popen}}\n",
    "factory": "handlers: {x: {'()': os.system}}\n",
    "hydra": "hydra: {job: {chdir: true}}\n",
    "dotted": "hydra.job: {chdir: true}\n",
    "package": "# @package hydra.job\nchdir: true\n",
    "second header": "# @other x\n# @package hydra.job\nchdir: true\n",
    "default": "defaults: [/hydra/job_logging: x]\n",
    "default of a package": "defaults: [/x@hydra.job_logging: y]\n",
    "override": "defaults: [override /hydra/launcher: x]\n",
    "no yaml": "a: [\n",
}


@pytest.mark.parametrize("how", EVIL)
def test_what_a_config_from_elsewhere_may_not_hold(how, tmp_path):
    (tmp_path / "evil.yaml").write_text(EVIL[how])
    with pytest.raises(ValueError, match=r"evil\.yaml (holds `_target_|sets `hydra`|is no yaml)"):
        prepare([FIG12, "-cd", str(tmp_path)], run.CONF)


@pytest.mark.parametrize("name", ["evil.yaml", "evil.yml", "inside/hydra/x.yaml"])
def test_linked_folders_and_every_file_that_hydra_reads_are_looked_into(name, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("_target_: os.system\n" if "hydra" not in name else "a: 1\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"which would run code|sets `hydra`"):
        prepare([FIG12, "-cd", str(tmp_path / "mine")], run.CONF)


def test_configs_come_from_folders_and_nowhere_else(tmp_path):
    for words in (["-cp", "pkg://evil.conf"], ["-cd", "file:///x"]):
        with pytest.raises(ValueError, match="configs are read from folders"):
            prepare([FIG12, *words], run.CONF)
    (tmp_path / "config.pickle").write_bytes(b"cos\nsystem\n")
    for flag in ("--experimental-rerun", "--experimental-r"):
        with pytest.raises(ValueError, match="not accepted: it would run what a file says"):
            prepare([FIG12, flag, str(tmp_path / "config.pickle")], run.CONF)
    assert prepare([FIG12, "-cp", str(run.CONF)], run.CONF)  # our own may set hydra


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "hydra.utils.instantiate",
        "attnguide.runs.objects.import_module",  # ours imports it; it is not ours
        "attnguide.store.provenance.subprocess",
        "attnguidex.y",
        "pytorch_lightning.Trainer.fit",
    ],
)
def test_objects_are_made_of_what_is_ours_alone(path):
    for name in HOMES:
        refused = rf"{name}._target_: (.* is not accepted; |there is no )"
        with pytest.raises(ValueError, match=refused):
            find_target({"_target_": path, "_partial_": True}, name)
    inside = {"_target_": "attnguide.data.Creatures", "shown": [{"_target_": path}]}
    with pytest.raises(ValueError, match="data.shown.entry: `_target_` is not accepted"):
        build(inside, "data")
    nested = {"_target_": "pytorch_lightning.Trainer", "callbacks": [{"_target_": path}]}
    with pytest.raises(ValueError, match="trainer.callbacks.entry: `_target_` is not accepted"):
        find_target(nested, "trainer")


@pytest.mark.parametrize("node", ["trainer", "logger", "model", "data", "guide"])
def test_a_run_makes_nothing_that_a_resolved_config_smuggles_in(node, tmp_path, monkeypatch):
    """An interpolation may become a dictionary only when everything is resolved."""
    from running import config, keys

    from attnguide.runs.lifecycle import run as run_it

    ran = tmp_path / "ran"
    evil = {"_target_": "pathlib.Path.touch", "self": str(ran)}
    made = config(FIG12, "device=cpu")
    made[node]["name"] = evil
    with pytest.raises(ValueError, match=r"name: `_target_` is not accepted"):
        run_it(made, keys([FIG12]), tmp_path / "run")
    assert not ran.exists()
    assert not (tmp_path / "run").exists()


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
        picture_file(tmp_path, name),
        tmp_path / folder_name([f"guide.image={name}"], 0, set()),
    ):
        inside = path.resolve().relative_to(tmp_path)
        assert not re.search(r"[/\\\0]", inside.name)
        assert len(inside.parts) <= 2
