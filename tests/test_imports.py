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
    "types config findings",
    "rules losses propagate guides",
    "models store viz",
    "tracing",
    "methods interventions data",
    "api",
    "evaluation",
    "report tracking",
    "runs",
]
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


def test_every_part_has_its_line():
    parts = {name_of(path).split(".")[0] for path in FILES}
    assert parts == {name for name in LEVEL if "." not in name}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downward(path):
    own = name_of(path)
    for module in imports(path):
        home, _, inside = module.partition(".")
        if home == "attnguide":
            beside = inside.split(".")[0] == own.split(".")[0]
            assert beside or level(inside) < level(own), f"{own} imports {inside}"
        assert home not in ("hydra", "experiments"), f"{own} imports {module}"
        assert home != "wandb" or own.startswith("tracking."), f"{own} imports {module}"


def test_methods_do_not_import_each_other():
    for path in (PACKAGE / "methods").glob("[a-z]*.py"):
        assert not [
            m for m in imports(path) if m.startswith("attnguide.methods") and "._" not in m
        ], path.name


def test_a_wrong_word_is_answered_without_torch():
    code = (
        "import sys, run; from attnguide.runs.commandline import check_words\n"
        "try: check_words(['experiment=nothing'], run.CONF)\n"
        "except ValueError: heavy = {'torch', 'pandas', 'matplotlib', 'wandb'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
