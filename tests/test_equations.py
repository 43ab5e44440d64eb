"""One equation, one function: each tag stands once under src/."""

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"


@cache
def texts():
    return [path.read_text() for path in SOURCE.rglob("*.py")]


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
