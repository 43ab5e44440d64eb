"""Rewriting pixels: steps of the promised length, bounds kept, numbers from 8-bit pictures."""

import math

import pytest
import torch
from method_checks import fingerprint
from tiny import pictures, tiny

from attnguide.interventions.pixel_rewrite import rewrite


def setup(count=3):
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, count).clamp(-1, 1)
    with torch.no_grad():
        order = vit.module(images).argsort(1, descending=True)
    return vit, images, order[:, 0], order[:, 2]


def eight_bits(images):
    return ((images + 1) * 127.5).round()


def test_a_step_is_that_of_a_plain_loop():
    vit, images, source, goal = setup()
    got = rewrite(vit, images, source, goal, step=0.3, max_steps=4, confidence=0.999999)
    for index in range(len(images)):
        start = eight_bits(images[index])
        pixels = start / 127.5 - 1
        taken = 0
        for _ in range(4):
            now = vit.module((pixels * 127.5 + 127.5).round()[None] / 127.5 - 1)
            if now.softmax(1)[0, goal[index]].item() >= 0.999999:
                break
            leaf = pixels.clone().requires_grad_()
            logits = vit.module(leaf[None])[0]
            (logits[source[index]] - logits[goal[index]]).backward()
            pixels = (pixels - 0.3 * leaf.grad / leaf.grad.norm()).clamp(-1, 1)
            taken += 1
        want = eight_bits(pixels)
        assert int(got.steps[index]) == taken
        assert torch.equal(got.original[index].double(), start)
        assert torch.equal(got.updated[index].double(), want)
        torch.testing.assert_close(got.after[index], vit.module(want[None] / 127.5 - 1)[0].detach())
        error = float((want - start).square().mean())
        assert float(got.psnr[index]) == pytest.approx(10 * math.log10(255**2 / error))
        assert int(got.largest[index]) == int((want - start).abs().max())


def test_pictures_stop_one_by_one_when_the_goal_is_reached():
    vit, images, source, goal = setup(6)
    before = fingerprint(vit.module)
    got = rewrite(vit, images, source, goal, confidence=0.9)
    assert fingerprint(vit.module) == before
    reached = got.after.softmax(1).gather(1, goal[:, None])[:, 0] >= 0.9
    assert bool(reached.all())
    assert got.flipped.tolist() == [True] * 6
    assert len(set(got.steps.tolist())) > 1  # no picture waits for another
    alone = rewrite(vit, images[2:3], source[2:3], goal[2:3], confidence=0.9)
    assert torch.equal(alone.updated[0], got.updated[2])


def test_nothing_to_do_changes_nothing():
    vit, images, source, _ = setup(1)
    with torch.no_grad():
        probability = float(vit.module(images).softmax(1).max())
    other = (source + 1) % 5
    got = rewrite(vit, images, other, source, confidence=probability / 2)
    assert int(got.steps) == 0
    assert torch.equal(got.original, got.updated)
    assert math.isinf(float(got.psnr))


@pytest.mark.parametrize("epsilon", [1, 4])
def test_epsilon_bounds_every_pixel(epsilon):
    vit, images, source, goal = setup()
    got = rewrite(vit, images, source, goal, epsilon=epsilon, confidence=0.999999, step=2.0)
    assert got.largest.tolist() == [epsilon] * 3


def test_bad_input_is_told():
    vit, images, source, goal = setup()
    with pytest.raises(ValueError, match="two different classes"):
        rewrite(vit, images, source, torch.stack([goal[0], source[1], goal[2]]))
    for settings, message in (
        ({"step": 0.0}, "step and max_steps must be positive"),
        ({"max_steps": 0}, "step and max_steps must be positive"),
        ({"confidence": 93.8}, "pass 0.938"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"epsilon": 0}, r"lie in \[1, 255\], got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            rewrite(vit, images, source, goal, **settings)
