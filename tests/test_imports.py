"""Imports point downward only, and heavy libraries are loaded only where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "attnguide"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

# A file may import from the lines above its own; sideways only inside one folder.
LINES = [
    "errors",
    "types",
    "rules losses propagate guides inputs",
    "models store viz",
    "tracing",
    "methods interventions data",
    "api",
    "evaluation",
    "findings notebook interop",
    "figures report tracking",
    "runs",
]
# What the methods of a record draw with is loaded when one is called.
CALLED_LATER = {("types", "notebook")}
LEVEL = {name: number for number, line in enumerate(LINES) for name in line.split()}


def level(module):
    """Line of a module, named below the package: of itself, or else of its folder."""
    return LEVEL[module if module in LEVEL else module.split(".")[0]]


def name_of(path):
    """Dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """All modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "attnguide":
            yield from (f"attnguide.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def by_string(path):
    """Modules of ours that a file names in text, as an import by string does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                word.value
                for word in ast.walk(node)
                if isinstance(word, ast.Constant) and str(word.value).startswith("attnguide")
            )


def circles():
    """Groups of modules that import each other, at the top of their files, within a folder too."""
    names = {f"attnguide.{name_of(path)}": path for path in FILES}
    below = {
        name: {m for m in at_the_top(path, names) if m in names and m != name}
        for name, path in names.items()
    }
    while below:
        free = {name for name, needs in below.items() if not needs & set(below)}
        if not free:
            return below
        below = {name: needs for name, needs in below.items() if name not in free}
    return {}


def at_the_top(path, names):
    """Modules that are imported when the file is; of a folder, its files that are named."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (file if file in names else node.module for file in inside)


def test_no_circle_of_imports():
    assert circles() == {}


def test_every_part_has_its_line():
    parts = {name_of(path).split(".")[0] for path in FILES}
    assert parts == {name for name in LEVEL if "." not in name}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downward(path):
    own = name_of(path)
    for module in [*imports(path), *by_string(path)]:
        home, _, inside = module.partition(".")
        if home == "attnguide":
            beside = inside.split(".")[0] == own.split(".")[0]
            later = (own, inside.split(".")[0]) in CALLED_LATER and module not in imports(path)
            below = beside or later or level(inside) < level(own)
            assert below, f"{own} imports {inside}"
        assert home != "experiments", f"{own} imports {module}"
        assert home not in ("hydra", "omegaconf") or own.startswith("runs."), f"{own}: {module}"
        assert home != "pytorch_lightning" or own.startswith("runs."), own
        lends = home in ("transformers", "torchvision")  # only looked at, where they are loaded
        assert not lends or not own.startswith("models.adapters"), f"{own} imports {module}"
        assert home != "wandb" or own.startswith("tracking."), f"{own} imports {module}"


def test_methods_do_not_import_each_other():
    for path in (PACKAGE / "methods").glob("[a-z]*.py"):
        assert not [
            m for m in imports(path) if m.startswith("attnguide.methods") and "._" not in m
        ], path.name


def test_a_wrong_word_is_answered_without_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "run.py", "experiment=nothing"],
        cwd=PACKAGE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "unknown experiment 'nothing'" in done.stderr
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in loaded
    assert not {"torch", "pandas", "matplotlib", "wandb"} & loaded


def test_drawing_again_needs_no_lightning():
    code = "import sys, attnguide.runs.run; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
