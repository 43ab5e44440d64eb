"""A folder of one's own, without the classes that defaults name: nothing needs to be typed."""

import shutil

import pytest
from running import provenance, start, table_of

from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn", "recognised")
FEW = {
    "fig08_guided": ["runner.sweep_images=2", "runner.shown=3"],
    "label_audit": [],
    "localization": ["method=[complete,gae]", "runner.grids=1"],
}
KITE = "n01608432"  # the first class by name


@pytest.fixture
def own(photographs):
    """Words of a folder without a zebra."""
    shutil.rmtree(photographs / "n02391049")
    words = ["scale=sample", "model.checkpoint=weights", "device=cpu", "batch_size=4"]
    return [*words, f"data.root={photographs}"]


@pytest.mark.parametrize("name", ["fig08_guided", "localization"])
def test_the_default_guide_is_a_class_of_the_folder_and_is_left_out(name, own, tmp_path):
    run_dir = start(tmp_path / "run", f"experiment={name}", *own, *FEW[name])
    rows = read(run_dir)
    guided = rows[rows["view"].str.startswith("right") & rows["measured"]]
    assert guided["image_id"].nunique() == 6
    assert not guided["image_id"].str.startswith(KITE).any()
    assert "Pictures of the guide's class that were left out: 1." in " ".join(
        provenance(run_dir)["notes"].values()
    )


def test_shown_pictures_are_those_that_are_left(own, tmp_path, photographs):
    """The guide is of the first class that figures would show."""
    words = [f"guide.image={photographs / 'n01871265' / 'a.png'}", *FEW["fig08_guided"]]
    run_dir = start(tmp_path / "run", "experiment=fig08_guided", *own, *words)
    rows = read(run_dir)
    shown = rows[rows["shown"].notna()]["image_id"].unique()
    assert len(shown) == 3
    assert not any(name.startswith("n01871265") for name in shown)
    only = [*words, "data.shown=[tusker]"]
    rows = read(start(tmp_path / "only", "experiment=fig08_guided", *own, *only))
    assert rows[rows["shown"].notna()]["image_id"].nunique() == 3


def test_no_class_is_left_unaudited(own, tmp_path):
    run_dir = start(tmp_path / "run", "experiment=label_audit", *own, "runner.shown=3")
    listed = table_of(run_dir, "issues")
    assert len(listed) == 7
    assert listed["given_label"].nunique() == 6
    assert listed["label_score"].between(0, 1).all()
