"""What can be set beside the choices: names, types, defaults, ranges, and secrets among them.

Imports nothing heavy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from attnguide.errors import InputError, unknown_name
from attnguide.viz.style import FigureSettings

PACKAGE = Path(__file__).resolve().parents[1]
# Configs and experiments: inside an installed package, or beside `src` in a checkout.
HOME = PACKAGE / "home" if (PACKAGE / "home").is_dir() else PACKAGE.parents[1]
CONF = HOME / "conf"
NODES = ("model", "data", "method", "rule", "loss", "guide", "trainer", "logger", "runner")
CHOSEN = ("model", "data", "trainer", "logger")  # of `NODES`, by every command
SHARES = ("shard", "num_shards", "workers")  # of `data`: which part, and who reads pictures
# Settings that say where and how fast, not what: a run may be resumed with other values of these.
NOT_COMPARED = (
    *("run_dir", "stage", "device", "devices", "batch_size", "compile", "backend", "objective"),
    *("threads", "figure"),
    *("logger", "trainer", "data.workers", "data.shard"),
)
SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")  # in names of variables of the environment
SHORTEST = 8  # letters of a secret; shorter values are ordinary words
STRICT = ConfigDict(strict=True, allow_inf_nan=False)
# Order in which method=all has the methods; others of conf/method come after these.
METHODS = (
    *("complete", "gae", "complete_libra", "gae_libra", "t_attr", "lrp", "partial_lrp", "cp_lrp"),
    *("attn_lrp", "attn_gradcam", "gradcam", "layercam", "legrad", "attcat", "cdam"),
    *("input_x_gradient", "integrated_gradients", "smoothgrad", "tam", "bi_head", "bi_token"),
    *("dix", "grad_eclip", "vit_cx", "tis", "absolute", "rollout", "raw_attention"),
    *("attention_flow", "absolute_libra"),
)
Class = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0, lt=10**6)]


@dataclass(frozen=True)
class Settings:
    """The plain settings of a run, checked.

    Attributes:
        experiment: What is done: a name of `conf/experiment`.
        scale: Which model and data are the defaults: the embedded ones; any timm ViT with local
            weights on a folder; the paper's.
        target: Class to explain: "label", "predicted", a name or an index.
        reference: Second class of a two-class loss.
        variant: Short for runner.variant, where the experiment has variants.
        run_dir: Folder of everything that a run writes; one that is unfinished is resumed. By
            default outputs/<experiment>/<time>, of a sweep outputs/<experiment>/sweep.
        stage: "run" computes and draws, "check" tries everything that can fail, "draw" draws again
            from what is stored, "merge" merges shards, "verify" says whether a finished run is
            whole, "aggregate" makes one table of all runs below run_dir, "dashboard" defines panels
            of W&B.
        objective: Which number of summary.csv a sweeper optimises, as words of its row joined by
            dots: METHOD.QUANTITY, or METHOD.ORDER.QUANTITY of a perturbation; by default the
            first method's first number.
        seed: Of every random choice that belongs to the run.
        device: Where it computes; "auto" is a CUDA device where there is one.
        devices: How many; each has a process of its own.
        precision: Of the computation; "bf16" is of masked forward passes alone.
        compile: torch.compile for masked forward passes.
        backend: What computes masked forward passes on a CPU; "auto" times on the first pictures
            all that is installed and exact.
        threads: Of a process on a CPU; "auto" times 1 and all. A run keeps what it began with.
        figure: How figures are drawn, also by stage=draw.
        batch_size: Images per step; "auto" takes what fits into the free memory.
        shard: Which part of the items this process computes, from 0.
        num_shards: Into how many parts they are divided.
        workers: Processes that read pictures; with 0 or "auto" the run reads them itself.
    """

    experiment: str | None = None
    scale: Literal["embedded", "sample", "paper"] = "embedded"
    target: Class = "label"
    reference: Class | None = None
    variant: str | None = None
    run_dir: Annotated[str, Field(min_length=1)] | None = None
    stage: Literal["run", "check", "draw", "merge", "verify", "aggregate", "dashboard"] = "run"
    objective: Annotated[str, Field(min_length=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")] = "auto"
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    backend: Literal["auto", "torch", "openvino"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=2**20)] | Literal["auto"] = 16
    shard: Annotated[int, Field(ge=0)] = 0
    num_shards: Annotated[int, Field(ge=1, le=10**6)] = 1
    figure: FigureSettings = field(default_factory=FigureSettings)
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = 0


def default_settings() -> dict[str, Any]:
    """The defaults as a config has them, those of `SHARES` under `data`."""
    defaults = asdict(Settings())
    plain = {key: value for key, value in defaults.items() if key not in SHARES}
    return plain | {"data": {key: defaults[key] for key in SHARES}}


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The plain settings of a composed config.

    Raises:
        ValueError: all that are impossible, what they may be, and what came.
    """
    data = config.get("data") or {}
    shares = {name: data[name] for name in SHARES if name in data}
    known = {entry.name for entry in fields(Settings)} - set(SHARES)
    given = {key: value for key, value in config.items() if key not in NODES}
    for key in given:
        if key not in known:
            raise unknown_name("key", key, sorted({*known, *NODES}))
    for name in CHOSEN:
        if not isinstance(config.get(name), Mapping):
            raise InputError(f"{name} is missing; choose one: {name}=NAME")
    if isinstance(config.get("experiment"), Mapping):
        raise InputError(
            "the experiment's yaml must begin with the line `# @package _global_`; without it its "
            "settings stand where nobody reads them"
        )
    settings: Settings = validated(TypeAdapter(Settings), given | shares)
    if settings.shard >= settings.num_shards:
        raise InputError(
            f"data.shard must lie in [0, {settings.num_shards - 1}] with data.num_shards="
            f"{settings.num_shards}, got {settings.shard}; shards count from 0"
        )
    return settings


def validated(adapter: TypeAdapter[Any], value: Any, name: str = "") -> Any:
    """A value of the adapter's type, without conversions that would hide a slip.

    As json, where a list may be a tuple, but a number in quotes or a truth value is no number.

    Raises:
        ValueError: what was expected, and what came.
    """
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise InputError(_message(error, name)) from None


def _message(error: ValidationError, name: str) -> str:
    """One line: names of the settings, what each may be, what came."""
    expected: dict[str, list[str]] = {}
    came: dict[str, Any] = {}
    for fault in error.errors():
        path = [str(part) for part in fault["loc"] if not _is_kind(part)]
        where = ".".join([name, *path]).strip(".")
        where = f"data.{where}" if where in SHARES else where
        message = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected.setdefault(where, []).append(message)
        came[where] = fault["input"]
    return "; ".join(
        f"{where} must be {' or '.join(dict.fromkeys(messages))}, got {came[where]!r}"
        for where, messages in expected.items()
    )


def _is_kind(part: Any) -> bool:
    """Whether a step of pydantic's path names an alternative of a union, and no setting."""
    return isinstance(part, str) and (
        part in ("int", "str", "float", "bool", "none")
        or part.startswith(("literal", "constrained", "list[", "dict["))
    )


def hide(value: Any) -> Any:
    """The value without secrets of the environment: text, and what lists and mappings hold."""
    if isinstance(value, str):
        secrets = (v for name, v in os.environ.items() if any(w in name.upper() for w in SECRETS))
        for secret in sorted(secrets, key=len, reverse=True):  # some contain others
            value = value.replace(secret, "***") if len(secret) >= SHORTEST else value
        return value
    if isinstance(value, Mapping):
        return {hide(key): hide(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [hide(entry) for entry in value]
    return value
