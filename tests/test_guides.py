"""Where the guide goes, what is refused."""

import pytest
import torch

from attnguide import stitch

SIDES = {"right": (0, 8, 0, 4), "left": (0, 8, 4, 8), "bottom": (0, 4, 0, 8), "top": (4, 8, 0, 8)}


@pytest.mark.parametrize("layout", SIDES)
def test_mask_is_true_on_the_original_s_patches(layout):
    images = torch.ones(2, 3, 32, 32)
    stitched, mask = stitch(images, torch.zeros(3, 20, 50), layout, patch_size=4)
    assert stitched.shape == (2, 3, 32, 32)
    assert mask.shape == (8, 8)
    top, bottom, left, right = SIDES[layout]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[top:bottom, left:right] = True
    assert torch.equal(mask, expected)
    pixels = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)
    torch.testing.assert_close(stitched, pixels.float().expand(2, 3, -1, -1))


def test_fractions_on_patch_borders_only():
    images = torch.zeros(1, 3, 224, 224)
    _, mask = stitch(images, images[0], fraction=0.286)
    assert int((~mask).sum()) == 4 * 14
    with pytest.raises(ValueError, match=r"nearest valid fraction is 0\.2857 \(4 of 14 patches\)"):
        stitch(images, images[0], fraction=0.3)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 50; pass 0\.5 for 50 %"):
        stitch(images, images[0], fraction=50)
    with pytest.raises(ValueError, match="must lie in"):
        stitch(images, images[0], fraction=-0.1)
    with pytest.raises(ValueError, match="leaves nothing"):
        stitch(images, images[0], fraction=0.9999)


def test_no_share_is_no_guide():
    images = torch.randn(2, 3, 32, 32)
    stitched, mask = stitch(images, torch.zeros(3, 4, 4), fraction=0)
    assert torch.equal(stitched, images)
    assert mask.all()


def test_squash_keeps_everything_crop_keeps_the_middle_pad_keeps_the_aspect():
    """A picture of three bands, 1 at the left, 0 in the middle, -1 at the right."""
    image = torch.zeros(3, 30, 60)
    image[..., :20], image[..., 40:] = 1, -1
    kwargs = {"size": (32, 32), "patch_size": 4}
    blank = torch.full((3, 8, 8), 9.0)
    squash = stitch([image], blank, **kwargs)[0][0, 0, :, :16]
    assert squash[:, :3].mean() > 0.9
    assert squash[:, -3:].mean() < -0.9
    crop = stitch([image], blank, fit="crop", **kwargs)[0][0, 0, :, :16]
    assert crop.abs().max() < 0.2
    pad = stitch([image], blank, fit="pad", fill=5.0, **kwargs)[0][0, 0, :, :16]
    assert (pad[:11] == 5).all()
    assert (pad[-11:] == 5).all()
    assert pad[13:19, :3].mean() > 0.9


def test_one_guide_per_image():
    images = torch.zeros(2, 3, 32, 32)
    guides = torch.stack([torch.full((3, 8, 8), v) for v in (1.0, 2.0)])
    stitched, _mask = stitch(images, guides, patch_size=4)
    assert [float(stitched[i, 0, 0, -1]) for i in (0, 1)] == [1, 2]
    with pytest.raises(ValueError, match="one guide or one per image"):
        stitch(images, torch.zeros(3, 3, 8, 8), patch_size=4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layout": "rigt"}, "unknown layout 'rigt'; did you mean right"),
        ({"patch_size": 5}, "not a whole number of 5 x 5 patches"),
    ],
)
def test_bad_input(kwargs, message):
    with pytest.raises(ValueError, match=message):
        stitch(torch.zeros(1, 3, 32, 32), torch.zeros(3, 8, 8), **{"patch_size": 4, **kwargs})


def test_pictures_of_any_size_need_the_size_of_the_result():
    with pytest.raises(ValueError, match="need size"):
        stitch([torch.zeros(3, 5, 6)], torch.zeros(3, 8, 8))
