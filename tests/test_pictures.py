"""A picture is read the same whatever its kind, or refused with its name and the reason."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from attnguide.data.pictures import UnreadableImage, read_picture

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path, pixels=COLOURS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_colour_picture_is_read_exactly(tmp_path):
    path = save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read_picture(path, "a")), COLOURS)
    np.testing.assert_array_equal(np.asarray(read_picture(path.read_bytes(), "a")), COLOURS)


def test_grey_and_palette_become_rgb(tmp_path):
    grey = COLOURS[..., 0]
    shown = np.asarray(read_picture(save(tmp_path / "grey.png", grey), "grey"))
    np.testing.assert_array_equal(shown, np.stack([grey] * 3, -1))
    Image.fromarray(COLOURS).quantize(4).save(tmp_path / "palette.png")
    expected = Image.fromarray(COLOURS).quantize(4).convert("RGB")
    shown = read_picture(tmp_path / "palette.png", "palette")
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))


def test_cmyk_becomes_rgb(tmp_path):
    cyan = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    cyan.save(tmp_path / "cyan.jpg")
    shown = read_picture(tmp_path / "cyan.jpg", "cyan")
    assert shown.mode == "RGB"
    assert np.asarray(shown)[0, 0].tolist() == pytest.approx([0, 255, 255], abs=3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    save(tmp_path / f"deep.{suffix}", values)
    shown = np.asarray(read_picture(tmp_path / f"deep.{suffix}", "deep"))
    assert shown[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = (0, 128, 255)
    shown = np.asarray(read_picture(save(tmp_path / "ghost.png", pixels), "ghost"))
    assert shown[0, :, 0].tolist() == [255, 127, 0]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    path = save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_picture(path, "t")), np.rot90(COLOURS, -1))


def broken(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.tile(COLOURS, (20, 20, 1))).save(buffer, kind)
    return buffer.getvalue()[:-200]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all", "not a picture"),
        (broken("JPEG"), "truncated"),
        (broken("PNG"), "."),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "."),
    ],
)
def test_broken_picture_is_named_with_a_reason(tmp_path, content, reason):
    (tmp_path / "bad.jpg").write_bytes(content)
    for file in (tmp_path / "bad.jpg", content):
        with pytest.raises(UnreadableImage, match=f"the picture some/bad.jpg: .*{reason}"):
            read_picture(file, "some/bad.jpg")


def test_missing_picture_and_floats_are_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        read_picture(tmp_path / "gone.png", "gone")
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UnreadableImage, match="floating-point"):
        read_picture(tmp_path / "float.tif", "float")


def test_unreadable_image_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "why")))
    assert (error.name, str(error)) == ("a.jpg", "cannot read the picture a.jpg: why")
