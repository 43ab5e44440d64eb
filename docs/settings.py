"""Every setting on one page, written from signatures, docstrings and configs: `settings_page`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from attnguide.data.pictures import Pictures
from attnguide.runs.settings import SHARES, Settings
from attnguide.viz.style import FigureSettings

CONF = Path(__file__).resolve().parents[1] / "conf"
HEAD = "| setting | type | default | meaning |\n|---|---|---|---|"
BOUNDED = {  # types of pydantic's, and of annotated-types, in words
    "PositiveInt": "int from 1",
    "NonNegativeInt": "int from 0",
    "PositiveFloat": "float above 0",
    "Annotated[int, Ge(2)]": "int from 2",
    "Annotated[float, Gt(0), Le(1)]": "float in (0, 1]",
}
OWNERS = {"method": "method, rule", "engine": "compile, backend, precision=bf16"}
INTRO = """# Settings

Written by `make docs` from signatures, docstrings and `conf/`. A setting is a word of the command
line, `key=value`: `python run.py experiment=fig12_perturbation data.num_images=64 seed=1`. What an
experiment does not take is refused, and a name or value that does not exist is answered with what
there is. A choice (`model`, `data`, `method`, `rule`, `loss`, `guide`, `logger`) is a name of a
file in `conf/<choice>/`; `method=[gae,complete]` chooses several, `method=all` every one,
`--multirun method=gae,complete` runs each by itself. The command line is Hydra's: a setting that
stands in no config is added by `+key=value`, as are callbacks of the trainer:
`+trainer.callbacks=[{_target_: my_module.MyCallback}]`. All experiments take `model`, `data`,
`trainer`, `logger` and the plain settings.
"""


def settings_page() -> str:
    """The page."""
    parts = [INTRO, "## Plain settings\n", _plain(), _taken()]
    for choice in ("model", "data", "guide", "loss", "rule", "logger"):
        parts += [f"## `{choice}`\n", _choices(choice), *_objects(choice)]
    parts += ["## `method`\n", "One table for all; `method.<name>.<setting>=value`.\n", _methods()]
    parts += ["## `runner`: what an experiment of its own can be told\n", _runners()]
    parts += ["## `trainer`\n", _trainer()]
    return "\n".join(parts)


def meanings(*things: Any) -> dict[str, str]:
    """What docstrings say of each setting: of classes with their bases, later ones first.

    "As in ..." gives way to what is told elsewhere.
    """
    found: dict[str, str] = {}
    for thing in things:
        for owner in reversed(thing.__mro__) if isinstance(thing, type) else [thing]:
            doc = inspect.cleandoc(vars(owner).get("__doc__") or owner.__doc__ or "")
            for name, text in _described(doc):
                if not text.startswith("As in ") or name not in found:
                    found[name] = text
    return found


def _described(doc: str) -> Iterable[tuple[str, str]]:
    section = re.search(r"^(?:Attributes|Args):\n(.*?)(?:\n\S|\Z)", doc, re.DOTALL | re.M)
    for entry in re.split(r"\n(?=    \S)", f"\n{section[1]}") if section else ():
        names, _, text = " ".join(entry.split()).partition(": ")
        for name in names.split(","):
            yield name.strip("* "), text


def _row(name: str, kind: str, default: Any, meaning: str) -> str:
    cells = (f"`{name}`", kind, f"`{_value(default)}`", meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", value))
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("\n...").removesuffix("...").strip()


def _kind(annotation: Any) -> str:
    """A type in words."""
    text = str(annotation)
    for name, words in BOUNDED.items():
        text = text.replace(name, words)
    text = re.sub(r"Annotated\[(\w+), Field\((.*?)\)\]", _limited, text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace('"', ""), text)
    text = text.replace("Class | None", "name, index or null").replace("Class", "name or index")
    text = text.replace("None", "null").replace("Sequence[", "list[").replace(" | ", " or ")
    return "as the meaning says" if text == "Any" else text


def _limited(found: re.Match[str]) -> str:
    limits = dict(re.findall(r"(\w+)=(r?\"[^\"]*\"|[^,]+)", found[2]))
    low, high = limits.get("ge"), limits.get("le") or limits.get("lt")
    if "pattern" in limits:
        return "auto, cpu, cuda, cuda:N"
    bounds = [f"from {low}" if low else "", f"to {high}" if "le" in limits else ""]
    return " ".join([found[1], *filter(None, bounds)]) if low or high else found[1]


def _plain() -> str:
    lines = [HEAD]
    for owner, prefix in ((Settings, ""), (FigureSettings, "figure.")):
        told = meanings(owner)
        for name, parameter in inspect.signature(owner).parameters.items():
            shown = f"data.{name}" if name in SHARES else prefix + name
            if name != "figure":
                row = (shown, _kind(parameter.annotation), parameter.default, told.get(name, ""))
                lines.append(_row(*row))
    return "\n".join(lines) + "\n"


def _experiments() -> dict[str, Any]:
    """The classes by name, of those that have one."""
    found = {}
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        node = (yaml.safe_load(path.read_text()) or {}).get("runner")
        if node:
            found[path.stem] = _target(node)
    return found


def _taken() -> str:
    """Which experiment takes which choice."""
    takes = {name: made.uses for name, made in _experiments().items()}
    columns = ("method", "loss", "reference", "target", "guide", "engine")
    heads = [f"`{OWNERS.get(column, column)}`" for column in columns]
    lines = ["## What each experiment takes\n", "| experiment | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, own in takes.items():
        marks = ("yes" if column in own else "" for column in columns)
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def _target(node: Mapping[str, Any]) -> Callable[..., Any]:
    module, _, name = node["_target_"].rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _nodes(choice: str) -> dict[str, dict[str, Any]]:
    return {path.stem: _node(path) for path in sorted((CONF / choice).glob("*.yaml"))}


def _node(path: Path) -> dict[str, Any]:
    """What a config holds, with what it has from others of its folder."""
    values = yaml.safe_load(path.read_text())
    for base in values.pop("defaults", ()):
        values = values if base == "_self_" else _node(path.with_name(f"{base}.yaml")) | values
    return values


def _choices(choice: str) -> str:
    """Its names, and what each file says of itself."""
    lines = [f"| `{choice}=` | what it is |", "|---|---|"]
    for path in sorted((CONF / choice).glob("*.yaml")):
        lines.append(f"| `{path.stem}` | {path.read_text().splitlines()[0].lstrip('# ')} |")
    return "\n".join(lines) + "\n"


def _objects(choice: str) -> Iterable[str]:
    """The settings of every kind of object that its files make."""
    seen: dict[Any, list[str]] = {}
    for name, node in _nodes(choice).items():
        if not node["_target_"].startswith("pytorch_lightning"):  # has a page of its own
            seen.setdefault(_target(node), []).append(name)
    for target, names in seen.items():
        rows = [_with_others(choice, row, names) for row in _rows(choice, target)]
        if rows:
            listed = ", ".join(f"`{name}`" for name in names)
            yield f"Of {listed}:\n"
            yield "\n".join([HEAD, *rows]) + "\n"


def _with_others(choice: str, row: str, names: Iterable[str]) -> str:
    """The row of a setting, with the values that files set where these differ."""
    setting = row.split("`")[1].partition(".")[2]
    default = row.split(" | ")[2]
    nodes = _nodes(choice)
    written = {name: f"`{_value(nodes[name].get(setting))}`" for name in names}
    others = [
        f"; {name}: {value}"
        for name, value in written.items()
        if setting in nodes[name] and value != default
    ]
    return row.replace(f" | {default} | ", f" | {default}{''.join(others)} | ", 1)


def _rows(prefix: str, target: Any) -> list[str]:
    told = meanings(Pictures, target) if prefix == "data" else meanings(target)
    parameters = list(inspect.signature(target).parameters.values())
    if inspect.isfunction(target):
        parameters = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [
        _row(f"{prefix}.{p.name}", _kind(p.annotation), _default(target, p), told.get(p.name, ""))
        for p in parameters
    ]


def _default(target: Any, parameter: inspect.Parameter) -> Any:
    """What holds where nothing is said; of a dataclass's list, the list."""
    made = getattr(target, "__dataclass_fields__", {}).get(parameter.name)
    if made is not None and callable(made.default_factory):
        return made.default_factory()
    return None if parameter.default is inspect.Parameter.empty else parameter.default


def _methods() -> str:
    lines = [HEAD]
    for name, node in _nodes("method").items():
        lines += _rows(f"method.{name}", _target(node[name])) or [
            f"| `method.{name}` | no settings | | |"
        ]
    return "\n".join(lines) + "\n"


def _runners() -> str:
    lines = [HEAD.replace("| setting", "| experiment | setting").replace("|---", "|---|---", 1)]
    for name, made in _experiments().items():
        lines += [f"| `{name}` {row}" for row in _rows("runner", made)]
    return "\n".join(lines) + "\n"


def _trainer() -> str:
    lines = ["Any setting of Lightning's `Trainer`; here are those that are set.\n", HEAD]
    for name, value in _nodes("trainer")["default"].items():
        if name != "_target_":
            lines.append(_row(f"trainer.{name}", "as Lightning's", value, "as Lightning's"))
    return "\n".join(lines) + "\n"
