"""Single deletion: falls of known models, and the study with a masked model in place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import start, table_of
from tiny import pictures, tiny

from attnguide.evaluation.cells import cell_drops
from attnguide.evaluation.metrics import single_deletion


class Corner(torch.nn.Module):
    """Class 0 is the sum over the upper left cell, class 1 twice that of the lower right."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, images):
        corners = [images[:, :, :4, :4].sum((1, 2, 3)), images[:, :, 12:, 12:].sum((1, 2, 3))]
        return torch.stack(corners, 1) * self.weight


def test_a_cell_that_the_class_does_not_use_has_no_fall():
    vit = replace(tiny(num_classes=2), module=Corner())
    images = pictures(vit, 2)
    falls = cell_drops(vit, images, torch.tensor([0, 1]))
    expected = torch.zeros(2, 4, 4, dtype=torch.float64)
    expected[0, 0, 0] = images[0, :, :4, :4].sum()
    expected[1, 3, 3] = 2 * images[1, :, 12:, 12:].sum()
    np.testing.assert_allclose(falls, expected, atol=1e-5)
    assert single_deletion(expected[1], falls[1]) == pytest.approx(1)


@pytest.mark.usefixtures("small_models", "undrawn")
def test_both_models_are_measured_and_their_rankings_compared(tmp_path):
    run_dir = start(
        tmp_path / "run", "experiment=in_domain_deletion", "device=cpu", "data.num_images=4",
        "method=[complete,gae,gradcam]", "++runner.limits={gae: 3}", "batch_size=3",
    )  # fmt: skip
    summary = table_of(run_dir)
    assert set(summary["model"]) == {"creatures", "creatures_masked"}
    assert set(summary["measure"]) == {"rank correlation of cells", "SRG"}
    page = (run_dir / "report.html").read_text()
    assert "Do rankings agree" in page
