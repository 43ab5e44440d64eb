"""Classes by name, number and synonym; class names from lists and files."""

import json

import numpy as np
import pytest
import timm
from tiny import tiny

from attnguide import wrap_model
from attnguide.models.names import read_names


def named(*names, **kwargs):
    return wrap_model(tiny(num_classes=len(names), **kwargs).module, class_names=names)


def test_a_name_wins_over_a_number():
    grades = named("1", "2", "3", "4", "5")
    assert [grades.class_index(text) for text in "12345"] == [0, 1, 2, 3, 4]
    assert grades.class_index(1) == grades.class_index(np.int64(1)) == 1
    with pytest.raises(ValueError, match="unknown class '0'"):
        grades.class_index("0")
    sorted_as_text = named("0", "1", "10", "2")
    assert sorted_as_text.class_index("2") == 3
    mixed = named("7", "b", "c")
    with pytest.raises(ValueError, match="unknown class '1'"):
        mixed.class_index("1")


def test_a_name_where_the_model_has_none_says_what_to_pass():
    with pytest.raises(ValueError, match="unknown class 'zebra': .* pass model.class_names=FILE"):
        wrap_model(tiny(num_classes=2).module).class_index("zebra")


def test_without_such_names_the_text_of_a_number_is_an_index():
    vit = named("ant", "bee", "cat")
    assert vit.class_index("2") == 2
    for text in ("3", "-1"):
        with pytest.raises(ValueError, match=r"\[0, 2\]"):
            vit.class_index(text)
    with pytest.raises(ValueError, match="unknown class"):
        vit.class_index("9" * 5000)


def test_case_decides_only_where_it_must():
    vit = named("A", "a", "Bee")
    assert (vit.class_index("A"), vit.class_index("a"), vit.class_index("bee")) == (0, 1, 2)


def test_letters_are_compared_composed():
    composed, decomposed = "cr\u00e8me", "cre\u0300me"
    assert named(decomposed, "fox").class_index(composed) == 0
    assert named("fox", composed).class_index(decomposed) == 1


@pytest.mark.parametrize("given", [None, True, 1.0, [1]])
def test_neither_text_nor_integer_is_refused(given):
    with pytest.raises(TypeError, match="a class is a name or an index"):
        named("ant", "bee").class_index(given)


def test_class_names_synonyms_and_wnids():
    vit = wrap_model(timm.create_model("vit_tiny_patch16_224"))
    assert vit.class_index("zebra") == 340
    assert vit.class_index("n02391049") == 340
    assert vit.class_index("African elephant") == 386
    assert vit.class_index("386") == 386
    with pytest.raises(ValueError, match=r"ambiguous; pass one of the indices 134 .* 517"):
        vit.class_index("crane")
    for word, hint in (("zebrra", "zebra"), ("fox", "red fox")):
        with pytest.raises(ValueError, match=f"did you mean .*{hint}"):
            vit.class_index(word)
    with pytest.raises(ValueError, match=r"\[0, 999\]"):
        vit.class_index(1000)


FORMS = {
    "list": ["ant", "bee", "cat"],
    "by index": {2: "cat", 0: "ant", 1: "bee"},
    "by text of an index": {"2": "cat", "0": "ant", "1": "bee"},
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_and_dicts_by_index(form):
    assert read_names(FORMS[form]) == ("ant", "bee", "cat")
    vit = wrap_model(tiny(num_classes=3).module, class_names=FORMS[form])
    assert vit.class_index("bee") == 1


def test_more_than_ten_texts_are_sorted_as_numbers():
    given = {str(index): f"dish{index:02d}" for index in range(12)}
    assert read_names(given)[2] == "dish02"


def test_files_of_names(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffant\r\n\r\nBär\n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ("ant", "Bär")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "b", "0": "a"}}))
    assert read_names(str(tmp_path / "config.json")) == ("a", "b")
    (tmp_path / "latin.txt").write_bytes(b"B\xe4r\n")
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_names(tmp_path / "latin.txt")
    with pytest.raises(FileNotFoundError, match="no file of class names"):
        read_names("nowhere.txt")


NUMBERED = {
    "by spaces.txt": "2 fox\n0 cat\n1 dog\n",
    "by colons.txt": "2: fox\n0: cat\n1: dog\n",
    "table.csv": "2,fox\n0,cat\n1,dog\n",
    "titles.csv": "id,name\n2,fox\n0,cat\n1,dog\n",
    "behind.csv": "name,id\nfox,2\ncat,0\ndog,1\n",
    "yolo.yaml": "names:\n  2: fox\n  0: cat\n  1: dog\n",
    "list.yaml": "- cat\n- dog\n- fox\n",
    "comment.txt": "# classes\ncat\ndog\nfox\n",
    "keras.json": '{"2": ["n1", "fox"], "0": ["n2", "cat"], "1": ["n3", "dog"]}',
    "class_to_idx.json": '{"class_to_idx": {"dog": 1, "cat": 0, "fox": 2}}',
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_in_a_file_of_names_are_obeyed(name, tmp_path):
    (tmp_path / name).write_text(NUMBERED[name])
    assert read_names(tmp_path / name) == ("cat", "dog", "fox")


def test_numbers_that_are_no_indices_are_names_or_refused(tmp_path):
    (tmp_path / "years.txt").write_text("20 euro\n50 euro\n")
    assert read_names(tmp_path / "years.txt") == ("20 euro", "50 euro")
    (tmp_path / "from_one.txt").write_text("1 cat\n2 dog\n")
    with pytest.raises(ValueError, match=r"must be 0 to 1, each once; got \[1, 2\]"):
        read_names(tmp_path / "from_one.txt")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({0: "a", 2: "b"}, r"0 to 1, each once; got \[0, 2\]"),
        ({"a": "x", "b": "y"}, r"a dict of names by index.*got a dict of \['a', 'b'\]"),
        ({"a": 0, "b": 2}, r"0 to 1, each once; got \[0, 2\]"),
        ([True, False], "got True; put quotes around it"),
        (["a", ""], "class 1 must be a text, got ''"),
        (["a", None], "got None"),
        ([], "no class names given"),
        (5, "got int"),
    ],
)
def test_other_forms_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        read_names(given)
