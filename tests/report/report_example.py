"""An example of a run's findings for tests of pages: every text of it could do harm."""

import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from attnguide.findings import Findings, ShownPicture
from attnguide.report.index import RunRecord

NASTY = "<script>alert('x')</script> & \"quotes\""


def drawing(colour):
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1], color=colour)
    return figure


CLAIMS = pd.DataFrame(
    [
        ("tiny", "paper", "GAE is positive on both", 0.9833, 0.9512, 0.99, 120, "holds"),
        ("tiny", "paper", "less on the other " + NASTY, -0.03, -0.041, -0.02, 120, "does not hold"),
        ("big", "paper", "both signs are right", 11.62, -5.0, 18.14, 8, "inconclusive"),
        ("big", "ours", "nothing was measured", np.nan, np.nan, np.nan, 0, "inconclusive"),
    ],
    columns=["model", "source", "claim", "value", "low", "high", "n", "verdict"],
)


def png(size=(6, 4), colour="green"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


RELEVANCE = np.array([[0.5, -2.0, 0.0], [1.0, 0.25, -0.125]])
VIEWER = (
    ShownPicture("worst", "a snail", png(), {"complete": RELEVANCE, "gae": -RELEVANCE}),
    ShownPicture(NASTY, "a " + NASTY, png((4, 4)), {"complete": RELEVANCE[:, :2]}),
)


def example_findings():
    """Findings in which every text could do harm."""
    summary = pd.DataFrame(
        {
            "method": ["complete", NASTY],
            "auc": [48.0123, float("nan")],
            "change": [-0.5, 12.25],
            "n": [299, 4995],
        }
    )
    return Findings(
        figure=drawing("red"),
        summary=summary,
        caption="The caption " + NASTY,
        found=("First sentence.", "Second " + NASTY),
        figures={"More to see": drawing("blue")},
        tables={"Another table": summary.rename(columns={"auc": NASTY})},
        title="A title " + NASTY,
        claim="The claim " + NASTY,
        claims=CLAIMS,
        images=pd.DataFrame(
            {"image_id": ["worst", NASTY, "unseen"], "method": ["gae", "complete", "gae"]}
        ),
    )


CONFIG = {"experiment": "fig12", "model": {"name": ["a", "b"]}, "data": {"root": NASTY, "n": None}}
PROVENANCE = {"commit": "4d80e77", "dirty": False, "versions": {"torch": "2.14.1"}, "seconds": 3.25}


class Page(HTMLParser):
    """Tags with their attributes, the text outside of style and script, and the scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.code = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"style", "script"} & set(self.open):
            self.code.append(data)
        else:
            self.words.append(data.strip())


RUN = RunRecord(
    "fig [x]#", "Figure 1 " + NASTY, "claim " + NASTY, "caption", ("found " + NASTY,), CLAIMS,
    seconds=12.4, peak_memory_mb=900, files=("report.html", "claims.csv"),
    thumbnail="fig [x]#/figure.png",
)  # fmt: skip
