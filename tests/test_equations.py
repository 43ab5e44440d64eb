"""One equation, one function: each tag stands once under src/."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"


def tagged(number):
    """Functions whose docstring names this equation as its source."""
    tag = f"Paper: Eq. ({number})"
    return [
        f"{path.name}:{node.name}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and tag in (ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize("number", range(1, 9))
def test_each_equation_is_one_function(number):
    assert len(tagged(number)) == 1, tagged(number)
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    assert text.count(f"Eq. ({number})") == 1
