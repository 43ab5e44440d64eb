"""A picture is read the same whatever its kind and whoever asks, or refused with the reason."""

import io
import logging
import os
import pickle
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from attnguide.models.reader import SUFFIXES, UnreadableImage, read_picture, to_rgb

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path, pixels=COLOURS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_colour_picture_is_read_exactly(tmp_path):
    path = save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read_picture(path, "a")), COLOURS)
    np.testing.assert_array_equal(np.asarray(read_picture(path.read_bytes(), "a")), COLOURS)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA"])
def test_other_modes_become_rgb_as_pil_converts_them(mode):
    picture = Image.fromarray(COLOURS).convert(mode)
    expected = picture.convert("RGB")
    np.testing.assert_array_equal(np.asarray(to_rgb(picture)), np.asarray(expected))


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


TRANSPARENT = {
    "colours": (Image.new("RGBA", (8, 6), (9, 9, 9, 60)), {}, 197),
    "grey": (Image.new("LA", (8, 6), (9, 60)), {}, 197),
    "a palette": (Image.new("L", (8, 6), 9).convert("P"), {"transparency": 9}, 255),
    "one colour": (Image.new("RGB", (8, 6), (9, 9, 9)), {"transparency": (9, 9, 9)}, 255),
    "nothing": (Image.new("RGBA", (8, 6), (9, 9, 9, 255)), {}, 9),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_laid_over_white(kind):
    picture, options, expected = TRANSPARENT[kind]
    shown = np.asarray(read_picture(encoded(picture, "PNG", **options), "ghost"))
    assert shown.shape == (6, 8, 3)
    np.testing.assert_array_equal(shown, np.full((6, 8, 3), expected))


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def broken(kind):
    return encoded(Image.fromarray(np.tile(COLOURS, (20, 20, 1))), kind)[:-200]


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
    with pytest.raises(UnreadableImage, match="pixels of mode F from 0 to 1 have no known range"):
        read_picture(tmp_path / "float.tif", "float")


def test_what_is_no_ordinary_file_is_unreadable_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, goal in {"a.png": tmp_path / "pipe", "b.png": "/dev/zero", "c.png": "."}.items():
        (tmp_path / name).symlink_to(goal)
    (tmp_path / "d.png").touch()
    os.truncate(tmp_path / "d.png", 2**40)
    (tmp_path / "e.png").symlink_to("nowhere")
    for name in "abcde":
        with pytest.raises(UnreadableImage, match="not an ordinary file|No such file"):
            read_picture(tmp_path / f"{name}.png", name)


def test_unreadable_image_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "why")))
    assert (error.name, str(error)) == ("a.jpg", "cannot read the picture a.jpg: why")


def as_both_read(content):
    """Pixels by the notebook's way and by the command line's."""
    by_hand = to_rgb(Image.open(io.BytesIO(content)))
    return np.asarray(by_hand), np.asarray(read_picture(content, "x"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_all_eight_orientations_are_those_of_pil(kind):
    for number in range(1, 9):
        content = encoded(Image.fromarray(COLOURS), kind, exif=orientation(number))
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        assert expected.shape == ((6, 8, 3) if number < 5 else (8, 6, 3))
        for read in as_both_read(content):
            np.testing.assert_array_equal(read, expected)


def test_a_picture_that_was_read_is_not_turned_again():
    content = encoded(Image.fromarray(COLOURS), "PNG", exif=orientation(6))
    read = read_picture(content, "x")
    np.testing.assert_array_equal(np.asarray(to_rgb(read)), np.asarray(read))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # of PIL, where the test opens it by hand
@pytest.mark.parametrize(
    "block", [b"Exif\0\0" + bytes(range(200)), b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0\xff"]
)
def test_a_broken_exif_block_leaves_the_picture_as_it_is(block):
    raw = encoded(Image.fromarray(np.full((40, 60, 3), 99, np.uint8)), "JPEG")
    size = (len(block) + 2).to_bytes(2, "big")
    for read in as_both_read(raw[:2] + b"\xff\xe1" + size + block + raw[2:]):
        assert read.shape == (40, 60, 3)
        assert abs(int(read.mean()) - 99) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_picture(raw[:2] + b"\xff\xe1" + size + block + raw[2:], "x")


def test_the_orientation_counts_beside_a_broken_entry():
    """`ImageOps.exif_transpose` fails on it."""
    maker = struct.pack("<HHII", 0x010F, 5, 1, 60)  # a number in the place of a name
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + maker + turned + bytes(range(80))
    raw = encoded(Image.fromarray(COLOURS), "JPEG")
    size = (len(block) + 2).to_bytes(2, "big")
    for read in as_both_read(raw[:2] + b"\xff\xe1" + size + block + raw[2:]):
        assert read.shape == (8, 6, 3)


def test_32_bits_beyond_16_are_refused_by_both():
    content = encoded(Image.fromarray(np.array([[-5, 70000]], np.int32)), "TIFF")
    with pytest.raises(UnreadableImage, match="x: pixels of mode I from -5 to 70000 have no known"):
        read_picture(content, "x")
    with pytest.raises(ValueError, match="from -5 to 70000"):
        to_rgb(Image.open(io.BytesIO(content)))


def test_twelve_bits_in_sixteen_are_warned_of(caplog):
    content = encoded(Image.fromarray(np.array([[0, 4095]], np.uint16)), "PNG")
    with caplog.at_level(logging.WARNING):
        assert np.asarray(read_picture(content, "scan.png"))[0, :, 0].tolist() == [0, 16]
    assert "scan.png: its 16-bit pixels reach only 4095 of 65535" in caplog.text
    caplog.clear()
    read_picture(encoded(Image.fromarray(np.array([[0, 65000]], np.uint16)), "PNG"), "full.png")
    assert not caplog.records


@pytest.mark.parametrize("top", [200, 255, 256, 65535])
def test_one_pixel_does_not_change_the_scale_of_the_others(top, caplog):
    values = np.full((4, 4), 200, np.uint16)
    values[0, 0] = top
    for content in (
        encoded(Image.fromarray(values), "PNG"),
        encoded(Image.fromarray(values.astype(np.int32)), "TIFF"),
        b"P5 4 4 65535\n" + values.astype(">u2").tobytes(),
    ):
        assert np.asarray(read_picture(content, "scan"))[3, 3].tolist() == [1, 1, 1]
    assert ("nearly black" in caplog.text) == (top < 4096)


@pytest.mark.parametrize(("extra", "expected"), [(None, 100), (0, 100), (2, 249)])
def test_a_fourth_band_is_transparency_where_the_file_says_so(extra, expected):
    pixels = np.dstack([np.full((4, 4), value, np.uint8) for value in (100, 100, 100, 10)])
    content = encoded(Image.fromarray(pixels), "TIFF")
    entry = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert content.count(entry) == 1
    other = struct.pack("<HHIHH", 65000 if extra is None else 338, 3, 1, extra or 0, 0)
    shown = np.asarray(read_picture(content.replace(entry, other), "aerial"))
    np.testing.assert_array_equal(shown, np.full((4, 4, 3), expected))


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG"])
def test_the_first_of_several_pages_is_said(kind, caplog):
    pages = [Image.new("L", (4, 4), grey) for grey in (0, 200, 100)]
    content = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    assert np.asarray(read_picture(content, "stack")).max() == 0
    assert "stack: the first of its 3 pages is taken" in caplog.text


def test_endings_of_photographs_are_read(tmp_path):
    from PIL import features

    assert {".jfif", ".avif"} <= SUFFIXES
    save(tmp_path / "a.jfif", format="JPEG")
    assert read_picture(tmp_path / "a.jfif", "a").size == (8, 6)
    if features.check("avif"):
        save(tmp_path / "a.avif")
        assert read_picture(tmp_path / "a.avif", "a").size == (8, 6)


def test_postscript_never_reaches_ghostscript(tmp_path, monkeypatch):
    def run(*_, **__):
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    content = encoded(Image.fromarray(COLOURS), "EPS")
    (tmp_path / "nice.jpg").write_bytes(content)
    for file in (tmp_path / "nice.jpg", content):
        with pytest.raises(UnreadableImage, match="not a picture in a known format"):
            read_picture(file, "nice.jpg")


def test_a_picture_too_large_for_memory_is_unreadable(tmp_path, monkeypatch):
    def load(_):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(UnreadableImage, match="big.png: it does not fit into memory"):
        read_picture(save(tmp_path / "big.png"), "big.png")
