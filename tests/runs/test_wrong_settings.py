"""Wrong settings, generated from signatures: each is refused in a line, and leaves nothing."""

import inspect
import random
from dataclasses import fields, is_dataclass
from importlib import import_module

import pytest
import yaml
from rich.console import Console
from running import CONF, config, keys

from attnguide.runs.main import readable
from attnguide.runs.run import Run
from attnguide.runs.settings import SHARES, Settings

LONG = "1" * 40
ANY = ["{a: 1}", "nan", "[[1]]"]  # what hardly any setting may be
WRONG = {
    "int": [*ANY, "x", "1.5", "-1", LONG, f"-{LONG}", "[1,2]", "1e400", "true", "0x", "''"],
    "float": [*ANY, "x", "inf", "-inf", "[1,2]", "1e400", "1.5.5", "true", "''"],
    "bool": [*ANY, "x", "2", "[true]", "yess", LONG, "''"],
    "list": [*ANY, "x", "-1", LONG, "[nan]", "[{a: 1}]", "''"],
    "dict": ["nan", "[[1]]", "x", "5", "{a: nan}", "{a: x}", "''"],
    "str": [*ANY, "[a]", "true", "5.5"],
}
# Settings that may be anything, or whose wrong values only a model or the data can tell.
OPEN = {"data.name", "data.shown", "model.label", "model.arguments", "logger.tags"}
BASE = "experiment=fig12_perturbation"


def kind_of(annotation):
    """What of `WRONG` fits an annotation; None where only the object itself can tell."""
    text = str(annotation)
    first = text.split(" | ")[0].split("[")[0].strip()
    names = {"list": "list", "Sequence": "list", "dict": "dict", "Mapping": "dict"}
    names |= {name: name for name in ("int", "float", "bool", "str")}
    return None if "|" in text.replace(" | None", "") else names.get(first)


def settings_of(target):
    """Names of an object's settings, with what they may be."""
    module, _, name = target.rpartition(".")
    made = getattr(import_module(module), name)
    if is_dataclass(made):
        return [(entry.name, str(entry.type)) for entry in fields(made)]
    parameters = inspect.signature(made).parameters.values()
    return [(p.name, str(p.annotation)) for p in parameters if p.kind is p.KEYWORD_ONLY]


def nodes():
    """(words that choose it, its place in the config, its target) of everything that has one."""
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        runner = (yaml.safe_load(path.read_text()) or {}).get("runner")
        if runner and "_target_" in runner:
            yield (f"experiment={path.stem}",), "runner", runner["_target_"]
    base = ("experiment=fig12_perturbation",)
    for path in sorted((CONF / "method").glob("*.yaml")):
        for label, node in yaml.safe_load(path.read_text()).items():
            yield (*base, f"method={path.stem}"), f"method.{label}", node["_target_"]
    for group, name in (("data", "creatures"), ("data", "folder"), ("guide", "left"),
                        ("logger", "wandb"), ("model", "timm")):  # fmt: skip
        node = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
        yield (*base, f"{group}={name}"), group, node["_target_"]


def of_objects():
    for words, place, target in nodes():
        for name, annotation in settings_of(target):
            kind, key = kind_of(annotation), f"{place}.{name}"
            if kind is None or key in OPEN or name.startswith("noise_tensor"):
                continue
            wrong = WRONG[kind] if "None" in annotation else [*WRONG[kind], "null"]
            for value in wrong if name != "layer" else [w for w in wrong if w != "-1"]:
                yield (*words, f"++{key}={value}")
        yield (*words, f"{place}.nonsense=1")
        yield (*words, f"++{place}.nonsense={{a: 1}}")


def plain_settings():
    values = [*ANY, "-1", LONG, f"-{LONG}", "[1,2]", "1e400", "inf", "null", "''"]
    words = {"target", "reference", "run_dir", "variant", "objective"}  # any text may be one
    for entry in fields(Settings):
        key = f"data.{entry.name}" if entry.name in SHARES else entry.name
        optional = "None" in str(entry.type)
        for value in values if key not in ("experiment", "scale", *words) else ["{a: 1}", "''"]:
            if value != "null" or not optional:
                yield (BASE, f"{key}={value}")


def groups():
    for group in ("model", "data", "method", "loss", "guide", "trainer", "logger", "scale"):
        yield from ((BASE, f"{group}={value}") for value in ("x", "[x]", "{a: 1}", LONG, "null"))
        yield (BASE, f"~{group}")
    yield from ((f"experiment={value}",) for value in ("x", "[x]", "{a: 1}"))


def commands():
    """All of them, in an order that mixes the kinds, always the same."""
    found = [*of_objects(), *plain_settings(), *groups()]
    random.Random(0).shuffle(found)
    return found


def outcome(words, run_dir):
    """The line that refuses a command; "ACCEPTED"; or the kind of an error that is no line."""
    try:
        Run(config(*words), keys(words), run_dir, Console(quiet=True))
    except Exception as error:
        line = readable(error)
        return f"TRACEBACK {type(error).__name__}: {error}" if line is None else line
    return "ACCEPTED"


@pytest.mark.slow
def test_wrong_settings_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad, everything = [], commands()
    assert len(everything) > 1000
    for words in everything[:500]:
        said = outcome(words, tmp_path / "run")
        if said.startswith(("ACCEPTED", "TRACEBACK")) or not said.strip() or len(said) > 3000:
            bad.append(f"{' '.join(words)}: {said[:300]}")
    assert list(tmp_path.iterdir()) == []
    assert bad == []
