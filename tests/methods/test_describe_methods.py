"""What is said of every method beside its function, against what it does."""

import warnings

import pytest
import torch
from tiny import pictures, tiny

from attnguide import describe_methods, explain, list_methods

SETTINGS = {"tis": {"n_masks": 16}, "vit_cx": {"noise": 3.0}}
FACTS = describe_methods().set_index("name")


def test_a_row_per_method():
    assert list(FACTS.index) == list_methods()
    assert list(FACTS.columns) == ["signed", "class_sensitive", "cost", "settings", "source"]
    assert FACTS.loc["legrad", "settings"] == "layers=2"
    assert FACTS.loc["attcat", "settings"] == "attention=True, gradient='plain'"
    assert FACTS.loc["rollout", "source"].startswith("Abnar and Zuidema, ACL 2020")
    assert not FACTS.isna().any().any()
    assert FACTS["cost"].between(1, 1000).all()
    assert FACTS["cost"].idxmin() in ("raw_attention", "rollout")


@pytest.mark.parametrize("name", list_methods())
def test_signs_and_class_are_as_stated(name):
    """Measured on a random network: signed means that maps have both signs."""
    vit = tiny(dtype=torch.float64, depth=3)
    targets = torch.arange(5).expand(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = explain(vit, pictures(vit), targets, method=name, **SETTINGS.get(name, {})).relevance
    assert bool((maps > 0).any())
    assert bool((maps < 0).any()) == FACTS.loc[name, "signed"]
    blind = torch.allclose(maps, maps[:, :1].expand_as(maps), rtol=1e-9, atol=0)
    assert blind != FACTS.loc[name, "class_sensitive"]
