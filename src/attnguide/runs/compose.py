"""From Hydra's config to plain values: those that are used, and those that are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from attnguide.runs.secrets import hide

ENVIRONMENT = "oc.env"
_MARK = re.compile(r"ENVIRONMENT-([0-9a-f]*)-([0-9a-f]*)-END")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed config as plain values, to work with.

    Raises:
        ValueError: an interpolation that leads nowhere.
    """
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def storable(cfg: DictConfig) -> dict[str, Any]:
    """The same for records: what came from the environment stands as `${oc.env:NAME}`.

    Secrets that were written out are blotted.
    """
    with _environment_as_text():
        try:
            values = plain(cfg)
        except OmegaConfBaseException:  # something was computed of a variable: keep it as written
            container = OmegaConf.to_container(cfg, resolve=False)
            assert isinstance(container, dict)
            values = {str(key): value for key, value in container.items()}
    stored = hide(_unmarked(values))
    assert isinstance(stored, dict)
    return stored


@contextmanager
def _environment_as_text() -> Iterator[None]:
    """Inside, variables of the environment are marks that say how they were written."""

    def mark(name: str, *default: Any) -> str:
        given = "," + ",".join("null" if word is None else str(word) for word in default)
        return f"ENVIRONMENT-{name.encode().hex()}-{(given if default else '').encode().hex()}-END"

    OmegaConf.register_new_resolver(ENVIRONMENT, mark, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(ENVIRONMENT, oc.env, replace=True)


def _unmarked(value: Any) -> Any:
    if isinstance(value, str):

        def written(found: re.Match[str]) -> str:
            name, default = (bytes.fromhex(part).decode() for part in found.groups())
            return f"${{oc.env:{name}{default}}}"

        return _MARK.sub(written, value)
    if isinstance(value, dict):
        return {_unmarked(key): _unmarked(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_unmarked(entry) for entry in value]
    return value
