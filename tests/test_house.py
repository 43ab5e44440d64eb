"""One guess finds everything: names agree, files stay short, configs say what they are."""

import ast
import dataclasses
import inspect
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from pydoc import locate

import pytest
import yaml
from running import EXPERIMENTS

from attnguide import guides, list_methods, losses, rules
from attnguide.methods import get_method

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "attnguide"
CONF = ROOT / "conf"
CONFIGS = sorted(CONF.rglob("*.yaml"))


def stems(folder, pattern="*.yaml"):
    return {path.stem for path in (ROOT / folder).glob(pattern)} - {"__init__"}


def node_of(path):
    """What a config's file holds: of a method, what is below its name."""
    values = yaml.safe_load(path.read_text()) or {}
    for base in values.pop("defaults", ()) if path.parent.name == "model" else ():
        values = values if base == "_self_" else node_of(path.with_name(f"{base}.yaml")) | values
    if path.parent.name == "method":
        return values[path.stem]
    return values.get("runner", {}) if path.parent.name == "experiment" else values


VARIANTS = sorted(stems("conf/method") - set(list_methods()))


def public_functions(module):
    """Names of the functions that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


def test_methods_have_a_file_and_a_config_of_one_name():
    """Further configs are settings of a method: its name and theirs."""
    assert stems("conf/method") >= set(list_methods())
    for name in VARIANTS:
        assert name.rpartition("_")[0] in list_methods()


def test_experiments_have_a_file_and_a_config_of_one_name():
    assert stems("conf/experiment") - {"all_figures"} == {
        stem for stem in stems("experiments", "*.py") if stem[0] != "_"
    }
    for name in EXPERIMENTS:
        written = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
        class_name = name.title().replace("_", "")
        assert written["runner"]["_target_"] == f"experiments.{name}.{class_name}"


def test_losses_and_rules_have_a_function_and_a_config_of_one_name():
    helpers = {"get_loss", "loss_name"}
    assert stems("conf/loss") == public_functions(losses) - helpers
    assert stems("conf/rule") == public_functions(rules)


def test_guides_have_a_layout_and_a_config_of_one_name():
    assert stems("conf/guide") == {*guides.LAYOUTS, "none"}


@pytest.mark.parametrize("group", ["method", "rule", "loss"])
def test_what_is_called_later_is_a_partial_of_the_function_of_its_name(group):
    for path in sorted((CONF / group).glob("*.yaml")):
        node = node_of(path)
        module = {"rule": "rules", "loss": "losses"}.get(group)
        name = path.stem if module else "explain"
        file = path.stem.rpartition("_")[0] if path.stem in VARIANTS else path.stem
        home = f"attnguide.{module}" if module else f"attnguide.methods.{file}"
        assert node["_target_"] == f"{home}.{name}"
        assert node["_partial_"] is True


def defaults_of(target):
    """Defaults of what can be set, as a config writes them."""
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if inspect.isfunction(target) and parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        value = parameter.default
        if value is parameter.empty or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            [field] = [field for field in dataclasses.fields(target) if field.name == name]
            value = field.default_factory()
        found[name] = value
    return found


def as_written(value):
    """A default as yaml holds it."""
    if isinstance(value, tuple | list):
        return [as_written(entry) for entry in value]
    if callable(value):
        return {"_target_": f"{value.__module__}.{value.__qualname__}", "_partial_": True}
    return value


def settings_of(path):
    return {key: value for key, value in node_of(path).items() if key[0] != "_"}


@pytest.mark.parametrize("name", list_methods())
def test_a_methods_config_repeats_the_defaults_of_its_function(name):
    expected = defaults_of(get_method(name))
    written = settings_of(CONF / "method" / f"{name}.yaml")
    assert written == {key: as_written(value) for key, value in expected.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variants_config_has_all_settings_of_its_method_and_another_value(name):
    expected = defaults_of(get_method(name.rpartition("_")[0]))
    written = settings_of(CONF / "method" / f"{name}.yaml")
    assert set(written) == set(expected)
    assert written != {key: as_written(value) for key, value in expected.items()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiments_config_repeats_the_defaults_of_its_class(name):
    """Other numbers than the class's stand in no published config."""
    path = CONF / "experiment" / f"{name}.yaml"
    target = locate(node_of(path)["_target_"])
    expected = {key: as_written(value) for key, value in defaults_of(target).items()}
    assert settings_of(path) == expected


PUBLISHED = {  # whose settings are what the name says, not the defaults of the class
    "data/imagenet_val": {"name", "root", "num_images"},
    "guide/none": set(),
    **{f"guide/{layout}": {"layout"} for layout in guides.LAYOUTS},
    **{f"model/{name}": {"name"} for name in stems("conf/model")},
}


@pytest.mark.parametrize("group", ["data", "guide", "loss", "model", "rule"])
def test_a_choices_config_repeats_the_defaults_of_what_it_makes(group):
    for path in sorted((CONF / group).glob("*.yaml")):
        target = locate(node_of(path)["_target_"])
        expected = {key: as_written(value) for key, value in defaults_of(target).items()}
        own = PUBLISHED.get(f"{group}/{path.stem}", set())
        written = settings_of(path)
        assert set(written) == set(expected), path
        differ = {key for key in expected if written[key] != expected[key]}
        assert differ <= own, path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_config_opens_with_what_it_is(path):
    lines = path.read_text().splitlines()
    package = [number for number, line in enumerate(lines) if "@package" in line]
    assert package in ([], [0]), "Hydra ignores @package unless it is the first line"
    assert bool(package) == (path.parent.name in ("experiment", "scale"))
    comment = lines[len(package)]
    assert comment.startswith("# ")
    assert len(comment) > 10


def tracked(pattern):
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split() if (ROOT / name).exists()]


LINES = {"src": 25_084, "experiments": 3_096, "tests": 20_775}  # at most


def test_files_and_functions_can_be_read_in_one_sitting():
    long = []
    for name in tracked("*.py"):
        text = (ROOT / name).read_text()
        if text.count("\n") > 500:
            long.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
                if node.end_lineno - node.lineno + 1 - docstring > 50:
                    long.append(f"{name}: {node.name}")
    assert not long


@pytest.mark.parametrize(("folder", "most"), LINES.items())
def test_the_house_does_not_grow(folder, most):
    """A feature that adds lines takes some away."""
    lines = sum((ROOT / name).read_text().count("\n") for name in tracked(f"{folder}/**.py"))
    assert lines <= most


def test_no_two_files_of_the_package_have_one_name():
    count = Counter(path.stem for path in SRC.rglob("*.py") if path.stem != "__init__")
    assert not {name for name, number in count.items() if number > 1}


def modules():
    """Dotted name of each module to its file, experiments among them."""
    homes = (SRC.parent, "*/**/*.py"), (ROOT, "experiments/*.py")
    for home, pattern in homes:
        for path in home.glob(pattern):
            name = ".".join(path.relative_to(home).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def named_in(path):
    """Modules that a file names: in imports, also by string, or as a config's target."""
    if path.suffix == ".yaml":
        found = re.findall(r"_target_: ([\w.]+)\.\w+", path.read_text())
        return {name for target in found for name in (target, target.rpartition(".")[0])}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("attnguide."):
            found.add(node.value)
    return found


def test_a_short_file_with_one_reader_belongs_into_its_reader():
    """Methods are found by their names, so that each has its file; experiments only declare."""
    paths = dict(modules())
    readers = [*paths.values(), *CONFIGS, ROOT / "run.py"]
    named = {path: named_in(path) for path in readers}
    alone = {}
    for name, path in paths.items():
        short = path.read_text().count("\n") < 100 and path.stem != "__init__"
        if short and name.startswith("attnguide.") and path.parent.name != "methods":
            who = [reader for reader, names in named.items() if name in names and reader != path]
            if len(who) == 1 and SRC in who[0].parents and who[0].parent != SRC:
                alone[str(path.relative_to(SRC))] = str(who[0].relative_to(SRC))
    assert not alone


def test_hydra_is_used_by_what_it_offers():
    inside = {name for name in tracked("*.py") if "hydra._internal" in (ROOT / name).read_text()}
    assert inside == {"tests/test_house.py"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("fig*.py")), ids=lambda p: p.stem
)
def test_a_figure_is_a_declaration(path):
    assert path.read_text().count("\n") <= 120


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


# One equation, one function: each tag stands once under src/


@cache
def texts():
    return [path.read_text() for path in SRC.rglob("*.py")]


@cache
def docstrings():
    """Name and docstring of every function."""
    nodes = [node for text in texts() for node in ast.walk(ast.parse(text))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return [(node.name, ast.get_docstring(node) or "") for node in functions]


@pytest.mark.parametrize("number", range(1, 9))
def test_each_equation_is_one_function(number):
    tagged = [name for name, text in docstrings() if f"Paper: Eq. ({number})" in text]
    assert len(tagged) == 1, tagged
    assert "".join(texts()).count(f"Eq. ({number})") == 1
