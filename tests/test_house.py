"""One guess finds everything: names agree, files stay short, configs say what they are."""

import ast
import inspect
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from attnguide import list_methods
from attnguide.losses import logit
from attnguide.methods import get_method

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
CONFIGS = sorted(CONF.rglob("*.yaml"))


def stems(folder, pattern):
    return {path.stem for path in (ROOT / folder).glob(pattern) if path.stem != "__init__"}


def public_functions(module):
    """Names of the functions that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


def test_methods_have_a_file_and_a_config_of_one_name():
    assert stems("conf/method", "*.yaml") == set(list_methods())


def test_experiments_have_a_file_and_a_config_of_one_name():
    assert stems("conf/experiment", "*.yaml") == stems("experiments", "*.py")


def test_losses_have_a_function_and_a_config_of_one_name():
    module = inspect.getmodule(logit)
    assert stems("conf/loss", "*.yaml") == public_functions(module) - {"get_loss"}


def test_rules_have_a_function_and_a_config_of_one_name():
    from attnguide import rules

    assert stems("conf/rule", "*.yaml") == public_functions(rules) - {"get_rule"}
    for path in (CONF / "rule").glob("*.yaml"):
        rule = OmegaConf.load(path)
        assert rule.name == path.stem
        assert rule.method in list_methods()


@pytest.mark.parametrize("name", list_methods())
def test_a_methods_config_repeats_the_defaults_of_its_function(name):
    stored = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{name}.yaml"))
    parameters = list(inspect.signature(get_method(name)).parameters.values())[1:]
    assert stored == {name: {p.name: p.default for p in parameters}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_config_opens_with_what_it_is(path):
    lines = path.read_text().splitlines()
    package = [number for number, line in enumerate(lines) if "@package" in line]
    assert package in ([], [0]), "Hydra ignores @package unless it is the first line"
    comment = lines[len(package)]
    assert comment.startswith("# ")
    assert len(comment) > 10
    assert "_target_" not in path.read_text()


def test_files_and_functions_can_be_read_in_one_sitting():
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    long = []
    for name in listed.stdout.split():
        if not (ROOT / name).exists():
            continue
        text = (ROOT / name).read_text()
        if text.count("\n") > 300:
            long.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
                if node.end_lineno - node.lineno + 1 - docstring > 50:
                    long.append(f"{name}: {node.name}")
    assert not long


def test_the_known_good_versions_satisfy_the_requirements():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["slurm"], *extras["dev"]]:
        requirement = Requirement(text)
        if requirement.name != "attnguide":
            assert requirement.specifier.contains(pins[requirement.name]), text
