"""Controls of what a guide does: company, which guide, the picture's part by itself."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from attnguide.data import Creatures
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.views import beside_company, images_of, to_view
from attnguide.evaluation.guide_rows import own_part
from attnguide.figures.claims import Table, judge
from attnguide.figures.experiment import Study
from attnguide.figures.phenomena import RIGHT, more_than_company
from attnguide.guides import Guide
from attnguide.models.sources import Timm
from experiments.guide_controls import GuideControls


def study(vit, **guide):
    return Study(models=Timm(name="creatures"), pictures=Creatures(), vit=vit, guide=Guide(**guide))


def test_auto_takes_the_candidate_that_speaks_least_for_the_label(creatures):
    candidates = [CLASS_NAMES[number] for number in (6, 4, 10)]
    own = study(creatures, image="auto", candidates=candidates)
    assert own.guide_classes == ()
    for label in (0, 4, 6, 9):
        logits = []
        for guide in own.guide_pictures:
            sample = Creatures().singles(creatures).items[0].load()
            view = to_view(creatures, replace(sample, picture=guide.picture, masks=None))
            logits.append(float(creatures.logits(view.image[None])[0, label].detach()))
        allowed = [n for n, guide in enumerate(own.guide_pictures) if guide.label != label]
        [chosen] = own.guides_of([label])
        assert chosen is own.guide_pictures[min(allowed, key=lambda n: logits[n])]
    with pytest.raises(ValueError, match="needs a candidate of another class"):
        study(creatures, image="auto", candidates=candidates[:1]).guides_of([6])


def test_several_guides_are_averaged_in_a_view_and_their_classes_left_out(creatures):
    own = study(creatures, image=[CLASS_NAMES[6], CLASS_NAMES[10]])
    sample = Creatures().singles(creatures).items[0].load()
    view = own.guided_view(sample)
    first, second = (study(creatures, image=CLASS_NAMES[n]).guided_view(sample) for n in (6, 10))
    both = torch.stack([first.image, second.image])
    assert torch.equal(images_of([view])[0], both)
    mixed = images_of([view, to_view(creatures, sample)])
    assert torch.equal(mixed[1, 0], mixed[1, 1])
    assert own.guide_classes == (6, 10)
    assert own.with_more_guides.guide_classes == (6, 10)
    more = study(creatures).with_more_guides.guide_classes
    assert more[0] == CLASS_NAMES.index("spiral-shelled snail")
    assert len(set(more)) == len(more) == len(Creatures().shown)


def test_company_shows_no_other_class(creatures):
    sample = Creatures().singles(creatures).items[1].load()
    guide = Guide()
    views = {view.kind: view for view in beside_company(creatures, sample, guide, 3)}
    part = {name: view.image[:, :, 48:] for name, view in views.items()}
    torch.testing.assert_close(part["itself"], views["itself"].image[:, :, :48])
    assert float(part["grey"].abs().max()) < 0.01
    black = creatures.preprocess.denormalize(part["black"])
    assert float(black.max()) == 0
    noise = part["noise"].flatten()
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    same, other = (beside_company(creatures, sample, guide, seed)[-1] for seed in (3, 4))
    assert torch.equal(views["noise"].image, same.image)
    assert not torch.equal(views["noise"].image, other.image)
    assert {view.id for view in views.values()} == {f"{sample.id}@{name}" for name in views}


def test_the_picture_s_part_is_stretched_to_its_own_grid():
    own = torch.tensor([[1.0, 1, 0, 0]] * 4)
    relevance = torch.arange(16.0).view(1, 4, 4)
    part = own_part(relevance, own, (4, 4))
    assert part.shape == (1, 4, 4)
    torch.testing.assert_close(part[0, :, 0], relevance[0, :, 0])
    torch.testing.assert_close(part[0, :, 3], relevance[0, :, 1])
    torch.testing.assert_close(part[0, :, 1], relevance[0, :, 0] + 0.25)


def test_a_guide_that_does_what_noise_does_is_no_more_than_company():
    def line(view, number, own, guide):
        masses = {"positive_own": own, "negative_own": 0.5, "area_own": 0.5, "area_guide": 0.5,
                  "positive_guide": 0.5, "negative_guide": guide}  # fmt: skip
        names = {"image_id": str(number), "method": "complete", "view": view}
        return names | {"main": view == "zebra", **masses}

    right = {"zebra": (1.0, 1.0), "noise": (1.0, 1.0), "grey": (1.0, 0.0), "itself": (0.0, 1.0)}
    rows = pd.DataFrame(line(v, n, *masses) for v, masses in right.items() for n in range(40))
    table = Table(rows, GuideControls.measures, 0)
    claims = judge(more_than_company("fig08"), [("toy", table)]).set_index("id")
    assert claims["value"].to_dict() == {
        "fig08.company.noise": 0, "fig08.company.grey": 1, "fig08.company.itself": 1,
    }  # fmt: skip
    assert claims["verdict"].tolist() == ["inconclusive", "holds", "holds"]
    assert RIGHT in claims.loc["fig08.company.grey", "claim"]
