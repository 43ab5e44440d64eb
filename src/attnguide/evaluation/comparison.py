"""One method against several others on the same pictures, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from attnguide.evaluation.statistics import (
    Measure,
    holm,
    measured_rows,
    paired_difference,
    per_image,
    signed_rank,
    unit_means,
    units_of,
)

COLUMNS = ("method", "value", "ci_low", "ci_high", "n", "p", "effect")


def paired_tests(
    rows: pd.DataFrame, first: str, others: Sequence[str], measure: Measure, seed: int = 0
) -> pd.DataFrame:
    """A measure by one method minus every other, tested together.

    Returns:
        Columns method (the other), value, ci_low, ci_high, n, p (Wilcoxon, two-sided, over units),
        p_holm (corrected over the others) and effect (`signed_rank`). Others without a common image
        are left out.
    """
    own, units = rows[rows["method"] == first], units_of(rows)
    lines = []
    for other in others:
        theirs = rows[rows["method"] == other]
        found = paired_difference(own, theirs, measure, seed)
        if found.n:
            gaps = per_image(measured_rows(own), measure)[0]
            gaps = gaps - per_image(measured_rows(theirs), measure)[0]
            p, effect = signed_rank(unit_means(gaps, units))
            lines.append({"method": other, **found.as_row(), "p": p, "effect": effect})
    table = pd.DataFrame(
        lines, columns=["method", "value", "ci_low", "ci_high", "n", "p", "effect"]
    )
    return table.assign(p_holm=holm(table["p"].tolist()) if len(table) else [])
