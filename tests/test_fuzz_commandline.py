"""Command lines that are wrong, generated from the settings: each is refused, and leaves nothing.

Where a command can be refused without a model, it is; no process is started.
"""

import inspect
import itertools
import random
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from rich.console import Console

import run as program
from attnguide.runs.commandline import prepare
from attnguide.runs.compose import plain
from attnguide.runs.lifecycle import Run
from attnguide.runs.messages import readable
from attnguide.runs.settings import SHARES, Settings, read_settings

LONG = "1" * 40
ANY = ["{a: 1}", "''", "nan", "[[1]]"]  # what hardly any setting may be
WRONG = {
    "int": [*ANY, "x", "1.5", "-1", LONG, f"-{LONG}", "[1,2]", "1e400", "true", "0x"],
    "float": [*ANY, "x", "inf", "-inf", LONG, f"-{LONG}", "[1,2]", "1e400", "1.5.5"],
    "bool": [*ANY, "x", "2", "[true]", "yess", LONG],
    "list": [*ANY, "x", "-1", LONG, "[nan]", "[{a: 1}]", "[inf]"],
    "dict": ["''", "nan", "[[1]]", "x", "5", "{a: nan}", f"{{a: {LONG}}}", "{a: x}"],
    "str": [*ANY, "[a]", "' x'", "true", "5.5"],
}
CHOICES = ["x", "[x]", "''", "{a: 1}", LONG, "nan", "null"]  # of a group of configs
# Settings that may be anything, or whose wrong values only a model or the data can tell.
FREE = {"data.name", "data.shown", "model.label", "model.arguments", "logger.tags"}
OPTIONAL = ("None", "Any")


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
    for path in sorted((program.CONF / "experiment").glob("*.yaml")):
        runner = (yaml.safe_load(path.read_text()) or {}).get("runner")
        if runner and "_target_" in runner:
            yield (f"experiment={path.stem}",), "runner", runner["_target_"]
    base = ("experiment=fig12_perturbation",)
    for path in sorted((program.CONF / "method").glob("*.yaml")):
        for label, node in yaml.safe_load(path.read_text()).items() if path.stem != "all" else ():
            yield (*base, f"method={path.stem}"), f"method.{label}", node["_target_"]
    for group, name in (("data", "creatures"), ("data", "folder"), ("guide", "left"),
                        ("logger", "wandb"), ("model", "timm")):  # fmt: skip
        node = yaml.safe_load((program.CONF / group / f"{name}.yaml").read_text())
        yield (*base, f"{group}={name}"), group, node["_target_"]


def of_objects():
    for words, place, target in nodes():
        for name, annotation in settings_of(target):
            kind, key = kind_of(annotation), f"{place}.{name}"
            if kind is None or key in FREE or name.startswith("noise_tensor"):
                continue
            wrong = WRONG[kind] if "None" in annotation else [*WRONG[kind], "null"]
            for value in wrong if name != "layer" else [w for w in wrong if w != "-1"]:
                yield (*words, f"{key}={value}")
        yield (*words, f"{place}.nonsense=1")
        yield (*words, f"++{place}.nonsense={{a: 1}}")


def plain_settings():
    base = "experiment=fig12_perturbation"
    values = [*ANY, "x y", "-1", LONG, f"-{LONG}", "[1,2]", "1e400", "inf", "null"]
    taken = {"target": {"x y"}, "run_dir": {"x y", "-1", LONG, f"-{LONG}", "inf", "nan", "1e400"}}
    for entry in fields(Settings):
        key = f"data.{entry.name}" if entry.name in SHARES else entry.name
        if key in ("experiment", "scale"):
            continue
        good = taken.get(key, set()) | ({"null"} if "None" in str(entry.type) else set())
        for value in (value for value in values if value not in good):
            if key == "target" and value in ("nan", "inf", f"-{LONG}"):
                continue  # words: names of classes, which a model tells
            if key == "reference" and value in ("x y",):
                continue
            yield (base, f"{key}={value}")
        yield (base, f"{key}.x=1")


def groups():
    base = "experiment=fig12_perturbation"
    for group in ("model", "data", "method", "loss", "guide", "trainer", "logger", "scale"):
        for value in CHOICES:
            yield (base, f"{group}={value}")
        yield (base, f"~{group}")
    for value in CHOICES:
        yield (f"experiment={value}",)
        yield (base, f"rule={value}" if value != "null" else "rule=")


def by_hand():
    base = "experiment=fig12_perturbation"
    for words in (
        "runner.fractions=[0.5,0.1]", "runner.fractions=[0,0]", "runner.fractions=[]",
        "runner.fractions=[-0.1,1]", "runner.fractions=[0,2]", "runner.fill=nan", "runner.fill=x",
        "runner.fill=[]", "guide.fill=nan", "guide.fraction=1",
        "guide.fraction=-1", "guide.layout=x", "guide.fit=x", "data.shard=1", "data.shard=5",
        "device=cud", "device=cuda:", "device=cuda:99999", "precision=fp64", "stage=runn",
        "backend=tf", "devices=2000", "batch_size=autoo", "nonsense=1", "+nonsense=1", "~nonsense",
        "model.name=vit_nowhere", "model.name=[]", "model.checkpoint=nowhere.pt",
        "model.checkpoint=[a,b]", "model.class_names=nowhere.txt", "data.on_error=x",
        "data.framed=[a]", "data.rewrites=[[a]]", "data.framed=[x,y]", "loss=ratio",
        "reference=predicted", "trainer.nonsense=1", "trainer.num_nodes=-1", "trainer.barrier=x",
        "logger.project=1", "variant=x", "on_change=x", "seed", "=", "a=b=c", "runner", "--wrong",
        "data=folder data.root=nowhere", "data=folder data.root=''", "data=folder data.list=x",
        "method=[] rule=null", "method=[gae,gae]x", "rule=positive method=gae",
        "model.preprocess={a: 1}", "model.preprocess={mean: [1]}", "model.preprocess=x",
        "logger=wandb logger.mode=x", "run_dir=", "scale=x", "data.num_images=0",
    ):  # fmt: skip
        yield (base, *words.split(" ")) if "{" not in words else (base, words)


def commands():
    """All of them, in an order that mixes the kinds, always the same."""
    found = [*itertools.chain(of_objects(), plain_settings(), groups(), by_hand())]
    random.Random(0).shuffle(found)
    return found


def outcome(words):
    """The line that refuses a command; "accepted"; or the kind of an error that is no line."""
    try:
        asked = prepare([*words, f"++run_dir={RUN_DIR}"] if add(words) else words, program.CONF)
        asked = [word for word in asked or [] if word != "--multirun"]
        cfg = compose("config", asked, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        config = plain(cfg)
        keys = [word.lstrip("+~").partition("=")[0] for word in words]
        settings = read_settings(config)
        Run(config, keys, settings, RUN_DIR, Console(quiet=True))
    except SystemExit as error:  # argparse has said it
        return f"status {error.code}"
    except Exception as error:
        line = readable(error)
        return f"TRACEBACK {type(error).__name__}: {error}" if line is None else line
    return "ACCEPTED"


RUN_DIR = None


def add(words):
    return not any("run_dir" in word for word in words)


def check(chosen, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[__name__], "RUN_DIR", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    bad = []
    composable = initialize_config_dir(str(program.CONF), version_base="1.3")
    with composable:
        for words in chosen:
            said = outcome(words)
            if said.startswith(("ACCEPTED", "TRACEBACK")) or not said.strip():
                bad.append(f"{' '.join(words)}: {said}")
            elif len(said) > 3000:
                bad.append(f"{' '.join(words)}: {len(said)} letters")
    assert list(tmp_path.iterdir()) == []
    with capsys.disabled():
        sys.stdout.write(f"\n{len(chosen)} wrong commands, {len(bad)} not refused in a line\n")
    assert bad == []


def test_wrong_command_lines_are_refused_and_leave_nothing(tmp_path, monkeypatch, capsys):
    check(commands()[:60], tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_many_wrong_command_lines(tmp_path, monkeypatch, capsys):
    everything = commands()
    assert len(everything) > 1000
    check(everything[60:860], tmp_path, monkeypatch, capsys)
