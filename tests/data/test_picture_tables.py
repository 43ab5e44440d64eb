"""Tables and lists of pictures as people write them: right, or refused by name."""

import logging
import os

import pytest
from picture_forms import model_of, save

from attnguide.data import Photographs

A, B = "n01443537", "n01491361"  # classes 1 and 3 of ImageNet


def fill(root, *names):
    for number, name in enumerate(names):
        save(root / name, 20 * number)


def write(root, text, name="labels.csv", encoding="utf-8"):
    (root / name).write_bytes(text.encode(encoding))


def labels(root, imagenet, **settings):
    return {i.id: i.label for i in Photographs(root=str(root), **settings).all(imagenet).items}


CSV = f"filename,label\na.jpg,{A}\nb.jpg,{B}\n"
SPELLINGS = {
    "plain": CSV,
    "semicolons": CSV.replace(",", ";"),
    "tabs": CSV.replace(",", "\t"),
    "bars": CSV.replace(",", "|"),
    "no header": CSV.split("\n", 1)[1],
    "other headers": CSV.replace("filename,label", "Path, Target"),
    "image and class": CSV.replace("filename,label", "image,class"),
    "names without ending": CSV.replace(".jpg", ""),
    "another ending": CSV.replace(".jpg", ".JPEG"),
    "in folders": CSV.replace("a.jpg", "some/folder/a.jpg").replace("b.jpg", "./b.jpg"),
    "from Windows": CSV.replace("a.jpg", "folder\\a.jpg").replace("\n", "\r\n"),
    "quoted": CSV.replace("a.jpg", '"a.jpg"').replace(B, f'"{B}"'),
    "blank lines": CSV.replace("\nb", "\n\n,\nb"),
    "more columns": f"width,filename,label,note\n9,a.jpg,{A},x\n9,b.jpg,{B},\n",
    "twice the same": CSV + f"a.jpg,{A}\n",
    "class names": CSV.replace(A, "goldfish").replace(B, '"tiger shark, Galeocerdo cuvieri"'),
    "numbers": CSV.replace(A, "1").replace(B, "3"),
    "other pictures too": CSV + f"c.jpg,{A}\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_csv_spellings(spelling, tmp_path, imagenet):
    fill(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, SPELLINGS[spelling])
    assert labels(tmp_path, imagenet) == {"a.jpg": 1, "b.jpg": 3}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_csv_encodings(encoding, tmp_path, imagenet):
    fill(tmp_path, "Mädchen.jpg")
    write(tmp_path, f"filename,label,note\nMädchen.jpg,{A},größer\n", encoding=encoding)
    assert labels(tmp_path, imagenet) == {"Mädchen.jpg": 1}
    write(tmp_path, CSV, encoding="utf-16")
    with pytest.raises(ValueError, match="labels.csv is not text in UTF-8; save it again"):
        labels(tmp_path, imagenet)


def test_ids_with_dots(tmp_path, imagenet):
    fill(tmp_path, "2023.01.00.jpg", "2023.01.01.jpg")
    write(tmp_path, f"image_id,label\n2023.01.00,{A}\n2023.01.01,{B}\n")
    assert labels(tmp_path, imagenet) == {"2023.01.00.jpg": 1, "2023.01.01.jpg": 3}


def test_two_files_of_one_stem(tmp_path, imagenet):
    fill(tmp_path, "a.jpg", "a.png")
    write(tmp_path, f"filename,label\na.jpg,{A}\na.png,{B}\n")
    assert labels(tmp_path, imagenet) == {"a.jpg": 1, "a.png": 3}
    write(tmp_path, f"filename,label\na.jpg,{A}\n")
    with pytest.raises(ValueError, match=r"no line for 1 of 2 pictures, such as a.png"):
        labels(tmp_path, imagenet)
    write(tmp_path, f"filename,label\na,{A}\n")
    with pytest.raises(ValueError, match=r"'a' stands for a.jpg and for a.png; write full"):
        labels(tmp_path, imagenet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV + f"a.jpg,{B}\n", rf"gives a.jpg two classes, {A} \(line 2\) and {B} \(line 4\)"),
        (f"filename,label\na,{A}\na.JPG,{B}\nb,{A}\n", rf"gives a.jpg two classes, {A} .line 2"),
        ("filename,label\na.jpg\nb.jpg,1\n", "labels.csv line 2: file name or class is missing"),
        ("filename,label\na.jpg,1\nb.jpg,\n", "labels.csv line 3: file name or class is missing"),
        (
            "filename,label\na.jpg,tiger shark, Galeocerdo\n",
            "labels.csv: Expected 2 fields in line 2, saw 3; put",
        ),
        (CSV.replace(A, "1000"), r"1000; class index must lie in \[0, 999\]"),
        (CSV.replace(A, "1 3"), "none of tiny imagenet's: 1 3; unknown class"),
        (CSV.replace(A, '"1,3"'), "none of tiny imagenet's: 1,3; unknown class"),
    ],
)
def test_csv_lines_that_cannot_be_right_are_refused_by_name(text, message, tmp_path, imagenet):
    fill(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        labels(tmp_path, imagenet)


# Which table is about the pictures

FLAT, NESTED = ("a.png", "b.png", "c.png"), ("0/a.png", "1/b.png", "2/c.png")
ROWS = "image_id,label\na,fox\nb,cat\nc,dog\n"
TABLES = {
    "beside folders": (NESTED, {"metadata.csv": ROWS}),
    "by paths": (NESTED, {"m.csv": "file_name,label\n0/a.png,fox\n1/b.png,cat\n2/c.png,dog\n"}),
    "beside one folder": ([f"images/{name}" for name in FLAT], {"labels.csv": ROWS}),
    "beside train and test": (("train/a.png", "test/b.png", "test/c.png"), {"l.csv": ROWS}),
    "beside masks": ((*FLAT, *(f"masks/{name}" for name in FLAT)), {"l.csv": ROWS}),
    "of other pictures too": (
        FLAT, {"a_submission.csv": "image_id,label\nz,cat\n", "train.csv": ROWS}),
    "in other words": (FLAT, {"a.csv": "image,label\na,2\nb,0\nc,1\n", "b.csv": ROWS}),
    "JSON lines": (
        FLAT, {"metadata.jsonl": "".join(
            f'{{"file_name": "{name}", "label": "{label}"}}\n'
            for name, label in zip(FLAT, ("fox", "cat", "dog"), strict=True))}),
    "path and class": (
        [f"my images/{name}" for name in FLAT],
        {"val.txt": "my images/a.png fox\nmy images/b.png cat\nmy images/c.png  dog\n"}),
    "numbers with gaps": (FLAT, {"labels.csv": "image_id,label\na,2.0\nb,0.0\nc,1.0\n"}),
}  # fmt: skip


def fill_with_tables(root, pictures, tables):
    fill(root, *pictures)
    for name, text in tables.items():
        write(root, text, name)


@pytest.mark.parametrize("kind", TABLES)
def test_the_table_about_these_pictures_says_their_classes(kind, tmp_path):
    pictures, _ = TABLES[kind]
    fill_with_tables(tmp_path, *TABLES[kind])
    found = labels(tmp_path, model_of("cat", "dog", "fox"))
    assert found == dict(zip(pictures[:3], (2, 0, 1), strict=True))


WRONG = ROWS.replace("fox", "dog")


@pytest.mark.parametrize(
    ("pictures", "tables", "message"),
    [
        (FLAT, {"sample.csv": WRONG, "train.csv": ROWS}, r"sample.csv and .*train.csv give pict"),
        (("fox/a.png", "cat/b.png", "dog/c.png"), {"predicted.csv": WRONG}, "and the folders give"),
    ],
)
def test_sources_that_contradict_are_refused(pictures, tables, message, tmp_path):
    fill_with_tables(tmp_path, pictures, tables)
    with pytest.raises(ValueError, match=message):
        labels(tmp_path, model_of("cat", "dog", "fox"))


@pytest.mark.parametrize("text", ["image,label\na,dog\n", "image,label\na,\n", "\0", "{[", ""])
@pytest.mark.parametrize("name", ["l.csv", "l.jsonl"])
def test_a_table_of_some_of_the_pictures_leaves_them_to_their_folders(name, text, tmp_path):
    fill_with_tables(tmp_path, ("fox/a.png", "cat/b.png"), {name: text})
    assert labels(tmp_path, model_of("cat", "dog", "fox")) == {"cat/b.png": 0, "fox/a.png": 2}


# data.list


@pytest.fixture
def root(tmp_path):
    """Five pictures of two classes."""
    fill(tmp_path / "data", *(f"{A}/{n}.png" for n in "abc"), *(f"{B}/{n}.png" for n in "ad"))
    return tmp_path / "data"


def order(root, imagenet, text, name="list.txt", **settings):
    """(id, label) of the pictures of a list."""
    write(root.parent, text, name)
    path = str(root.parent / name)
    return [*labels(root, imagenet, list=path, **settings).items()]


def test_exactly_the_listed_pictures_in_this_order(root, imagenet):
    expected = [(f"{B}/d.png", 3), (f"{A}/a.png", 1), (f"{A}/c.png", 1)]
    absolute = f"{root}/{A}/c.png"
    for text in (
        f"{B}/d.png\n{A}/a.png\n{A}/c.png\n",
        f"d.png\n\n./{A}/a.png  \n{absolute}",
        f"d\r\n{A}/a\r\nc\r\n",
        f"filename\nd.png\n{A}/a.png\nc.png\n",
    ):
        assert order(root, imagenet, text) == expected
        assert order(root, imagenet, text, num_images=5) == expected
    assert order(root, imagenet, f"\ufeff{B}/d.png\n") == expected[:1]


def test_choosing_prints_nothing(root, imagenet, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger("attnguide"), "handlers", [])  # of an earlier run
    order(root, imagenet, f"{B}/d.png\nb.png\n")
    assert capfd.readouterr() == ("", "")


def test_a_relative_path_in_a_list(root, imagenet, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert order(root, imagenet, os.path.join("data", B, "d.png")) == [(f"{B}/d.png", 3)]


def test_a_list_with_labels_gives_the_classes(root, imagenet):
    expected = [(f"{B}/d.png", 0), (f"{A}/b.png", 3)]
    for text in (f"id,label\nd,0\n{A}/b.png,3\n", f"file;wnid\nd.png;n01440764\nb.png;{B}\n"):
        assert order(root, imagenet, text.replace("id,", "image_id,"), "list.csv") == expected
    for text in (f"d.png,0\nb.png,{B}\n", f"d.png 0\nb {B} \n", f"d.png   0\n{A}/b.png\t{B}\n"):
        assert order(root, imagenet, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x.png\nb.png\ny.png\n",
            r"2 of 3 pictures of .*list.txt are missing in .*: x.png, y.png;",
        ),
        ("b.png\nd.png\nb\n", r"list.txt names b twice, in lines 1 and 3"),
        ("a.png\n", rf"line 1: a.png may be {A}/a.png, {B}/a.png; write the id"),
        ("\n", "data.list .*list.txt' is empty"),
        ('["x/b.png", "x/d.png"]', "list.txt' is JSON; write one picture per line, a csv with"),
        ('[\n  {"file_name": "b.png", "label": 1}\n]\n', "list.txt' is JSON; write one picture"),
        ('{"images": [{"file_name": "b.png"}]}', "list.txt' is JSON; write one picture per line"),
        ("filename,label\nb.png,\n", "line 2: file name or class is missing"),
        ("filename,label\nb.png,1000\n", r"none of .*1000|has no class 1000"),
    ],
)
def test_lists_that_cannot_be_right_are_refused_by_name(text, message, root, imagenet):
    with pytest.raises(ValueError, match=message):
        order(root, imagenet, text)
        Photographs(root=str(root), list=str(root.parent / "list.txt")).singles(imagenet)


def test_a_list_is_checked_before_weights(root):
    with pytest.raises(ValueError, match="nowhere.txt' is not a file; pass a list of pictures"):
        Photographs(root=str(root), list="nowhere.txt").check(labels=False)
    write(root.parent, "b.png\nd.png\n", "list.txt")
    few = Photographs(root=str(root), list=str(root.parent / "list.txt"), num_images=1)
    with pytest.raises(ValueError, match=r"names 2 pictures and data.num_images=1 would leave"):
        few.check(labels=False)


def test_a_list_of_validation_pictures_by_any_name(tmp_path, imagenet):
    names = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 5)]
    fill(tmp_path / "data", *(f"{A}/{name}.JPEG" for name in names))
    text = f"{names[3]}\n{A}/{names[0]}.JPEG\n{names[1]}_{A}.JPEG\n{B}/{names[2]}.jpg\n"
    expected = [f"{names[number]}.JPEG" for number in (3, 0, 1, 2)]
    assert [name for name, _ in order(tmp_path / "data", imagenet, text)] == expected
