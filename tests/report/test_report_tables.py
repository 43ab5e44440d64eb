"""Tables for the eye and for spreadsheets: pivoted, sortable, and nothing lost."""

import pandas as pd

from attnguide.report.table_view import table_view, to_paste
from attnguide.store.files import csv_bytes


def summary(methods, measures, **columns):
    lines = [
        {"method": m, "measure": what, "value": 0.1 * i + 0.01 * j, "ci_low": 0.0, "ci_high": 1.0}
        for i, m in enumerate(methods)
        for j, what in enumerate(measures)
    ]
    return pd.DataFrame(lines).assign(**columns)


def test_long_tables_are_pivoted():
    many = table_view(summary("abcd", ["left", "right"], model="tiny", n=30))
    assert [name for name, _ in many.columns] == ["method", "left", "right"]
    small = " <small>[0.00, 1.00]</small>"
    assert many.rows[3] == ["d", "0.30" + small, "0.31" + small]
    assert "model: tiny; n = 30" in many.note
    gaps = summary("abcd", ["left", "right"]).rename(columns={"method": "difference"})
    assert [name for name, _ in table_view(gaps).columns] == ["difference", "left", "right"]
    few = table_view(summary("ab", ["up", "down", "left", "right"], n=[5] * 7 + [6]))
    assert [name for name, _ in few.columns] == ["measure", "a", "b"]
    assert [row[0] for row in few.rows] == ["up", "down", "left", "right"]
    assert few.rows[3][2] == "0.13 <small>[0.00, 1.00] n = 6</small>"


def test_a_pivoted_table_loses_nothing():
    two = pd.concat([summary("abcd", ["left", "right"], model=m) for m in ("tiny", "big")])
    view = table_view(two.iloc[:-1])
    assert [name for name, _ in view.columns] == ["model", "method", "left", "right"]
    assert len(view.rows) == 8
    assert view.rows[-1][-1] == "–"  # the line that was taken away
    doubled = pd.concat([two, two])  # cannot be told apart: stays as it is
    assert len(table_view(doubled).rows) == len(doubled)
    areas = summary("abcd", ["x", "y"]).rename(columns={"value": "auc", "measure": "quantity"})
    areas = areas.assign(order=["negative", None] * 4)
    assert [n for n, _ in table_view(areas).columns] == ["method", "negative, x", "y"]


def test_the_summary_is_there_to_paste():
    table = summary("abcd", ["left", "a|b_%"], n=30).assign(value=-0.5)
    paste = to_paste(table)
    lines = paste["md"].splitlines()
    assert lines[:3] == [
        r"| method | left | a\|b_% |", "| :-- | --: | --: |",
        "| a | −0.50 [0.00, 1.00] | −0.50 [0.00, 1.00] |",
    ]  # fmt: skip
    assert "n = 30" in lines[-1]
    assert r"a|b\_\%" in paste["tex"]
    assert r"a & $-$0.50 [0.00, 1.00] & $-$0.50 [0.00, 1.00] \\" in paste["tex"]
    evil = pd.DataFrame({"name": ["\\input{x}\n| y"], "n": [1]})
    assert "\\input" not in to_paste(evil)["tex"]
    assert len(to_paste(evil)["md"].strip().splitlines()) == 3


def test_a_csv_file_computes_nothing():
    table = pd.DataFrame(
        {
            "=name": ["=1+1", "+2", "-x", "@y", "plain", "\tz"],
            "number": [-1.5, 2.0, -3.0, 0.0, 1.0, 4.0],
            "mixed": [-1, "-1", None, True, "a=b", -2.5],
        }
    )
    lines = csv_bytes(table).decode().splitlines()
    assert lines == [
        "'=name,number,mixed",
        "'=1+1,-1.5,-1",
        "'+2,2.0,'-1",
        "'-x,-3.0,",
        "'@y,0.0,True",
        "plain,1.0,a=b",
        "'\tz,4.0,-2.5",
    ]
    assert table["=name"][0] == "=1+1"
