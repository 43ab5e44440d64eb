"""Classes by name, number and synonym; class names in the forms people have them."""

import json

import numpy as np
import pytest
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


@pytest.mark.parametrize("given", [None, True, 1.0, [1]])
def test_neither_text_nor_integer_is_refused(given):
    with pytest.raises(TypeError, match="a class is a name or an index"):
        named("ant", "bee").class_index(given)


FORMS = {
    "list": ["ant", "bee", "cat"],
    "array": np.array(["ant", "bee", "cat"]),
    "by index": {2: "cat", 0: "ant", 1: "bee"},
    "by text of an index": {"2": "cat", "0": "ant", "1": "bee"},
    "to index": {"bee": 1, "cat": 2, "ant": np.int64(0)},
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_and_both_kinds_of_dicts(form):
    assert read_names(FORMS[form]) == ("ant", "bee", "cat")
    vit = wrap_model(tiny(num_classes=3).module, class_names=FORMS[form])
    assert vit.class_index("bee") == 1


def test_more_than_ten_texts_are_sorted_as_numbers():
    given = {str(index): f"dish{index:02d}" for index in range(12)}
    assert read_names(given)[2] == "dish02"
    assert read_names({"1": 0, "2": 1}) == ("1", "2")


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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({0: "a", 2: "b"}, r"0 to 1, each once; got \[0, 2\]"),
        ({"a": 1, "b": 1}, "each once"),
        ({0: 1, 1: 0}, "cannot tell names from indices"),
        ({"a": "b"}, "a dict in|a dict of names by index"),
        (["a", ""], "class 1 must be a text, got ''"),
        (["a", None], "got None"),
        ([], "no class names given"),
        (5, "got int"),
    ],
)
def test_other_forms_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        read_names(given)
