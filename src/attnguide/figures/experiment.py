"""An experiment: what it uses, which pictures it studies, the rows of a batch, the figure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attnguide.data.pictures import GuideImage, Item, Pictures, Sample, Selection
from attnguide.data.views import View, check_different, to_guided_view, to_view
from attnguide.errors import InputError
from attnguide.evaluation.engines import Engine, MaskedModel, prepare
from attnguide.findings import Findings
from attnguide.guides import Guide, no_guide
from attnguide.losses import Loss, logit
from attnguide.methods import Method
from attnguide.models.sources import ModelSource
from attnguide.store.maps import stored_picture
from attnguide.store.table import read
from attnguide.types import ViT

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

# What an experiment may take
CHOICES = ("method", "loss", "reference", "target", "guide", "engine")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was chosen for a run, as objects; what the experiment does not take has its default.

    Attributes:
        models: To load one after the other.
        pictures: The data.
        methods: Partials of `explain` functions by label, in order.
        loss: What is differentiated.
        target: "label", "predicted", a class index or a class name.
        reference: Second class of a two-class loss, given as `target` is.
        guide: How the guide image is stitched; its layout is "none" for pictures as they are.
        engine: Of masked forward passes.
        seed: Of every random choice that belongs to the run.
        batch_size: Images per step.
    """

    models: ModelSource
    pictures: Pictures
    methods: Mapping[str, Method] = field(default_factory=dict)
    loss: Loss = logit
    target: str = "label"
    reference: str | None = None
    guide: Guide = field(default_factory=no_guide)
    engine: Engine = field(default_factory=Engine)
    seed: int = 0
    batch_size: int = 16

    def of(self, vit: ViT) -> Study:
        """The study of one model."""
        return Study(**vars(self), vit=vit)


@dataclass(frozen=True, kw_only=True)
class Study(Choices):
    """What was chosen, and the model that is studied now."""

    vit: ViT

    @cached_property
    def guide_pictures(self) -> tuple[GuideImage, ...]:
        """The guides, or the candidates for one, read once; none where none is asked for.

        Raises:
            ValueError: no such picture; two of one class.
        """
        if not self.guide.is_shown:
            return ()
        asked = self.guide.images
        found = tuple(self.pictures.guide_picture(self.vit, image) for image in asked)
        check_different([guide.label for guide in found], [guide.name for guide in found])
        return found

    @property
    def guide_picture(self) -> GuideImage | None:
        """The first guide; None where none is asked for."""
        return next(iter(self.guide_pictures), None)

    @cached_property
    def with_more_guides(self) -> Study:
        """The same beside several guides: those asked for, or the default and `shown` classes."""
        image, first = list(map(str, self.guide.images)), self.guide_picture
        if len(image) == 1 and first is not None:
            shown = self.pictures.shown_singles(self.vit, len(self.pictures.shown)).items
            others = [str(item.label) for item in shown if item.label != first.label]
            default = first.name if first.label is None else str(first.label)
            asked = self.guide.images[0] or default
            image = [asked, *others][: len(self.pictures.shown)]
        return replace(self, guide=replace(self.guide, image=image, candidates=None))

    @cached_property
    def evidence(self) -> Tensor:
        """(guides, C) logits of the guides by themselves."""
        views = (to_view(self.vit, Sample(g.name, g.picture, (), ())) for g in self.guide_pictures)
        images = torch.stack([view.image for view in views]).to(self.vit.device, self.vit.dtype)
        with torch.no_grad():
            return self.vit.logits(images).cpu()

    def guides_of(self, targets: Sequence[int]) -> tuple[GuideImage, ...]:
        """The guides of a picture: all, or the candidate that speaks least for its first target.

        Raises:
            ValueError: no candidate is of another class.
        """
        found = self.guide_pictures
        if not self.guide.is_chosen:
            return found
        other = [number for number, guide in enumerate(found) if guide.label not in targets]
        if not other or not targets:
            raise InputError(
                "guide.image=auto needs a candidate of another class than the label's; pass more "
                "guide.candidates"
            )
        return (found[min(other, key=lambda number: float(self.evidence[number, targets[0]]))],)

    def guided_view(self, sample: Sample) -> View:
        """The sample with its guide beside it; as it is where none is asked for."""
        return to_guided_view(self.vit, sample, self.guides_of(sample.targets), self.guide)

    @cached_property
    def second_guide(self) -> GuideImage:
        """A guide of another class, for pictures of the guide's own class; read once.

        Raises:
            ValueError: all pictures are of the guide's class.
        """
        others = self.pictures.singles(self.vit, exclude=self.guide_classes).items
        if not others:
            raise InputError(
                "all pictures are of the guide's class; pass a guide.image of another class"
            )
        return self.pictures.guide_picture(self.vit, str(others[0].label))

    @cached_property
    def masked_model(self) -> MaskedModel:
        """The model made ready for masked forward passes, where it is now."""
        return prepare(self.vit, self.engine)

    @property
    def engine_used(self) -> str:
        """What masked forward passes ran on; empty where there were none."""
        ready = vars(self).get("masked_model")
        return "" if ready is None else str(ready.description)

    @property
    def guide_classes(self) -> tuple[int, ...]:
        """Classes that cannot be studied beside the guides; a chosen guide is of another class."""
        known = (guide.label for guide in self.guide_pictures if not self.guide.is_chosen)
        return tuple(label for label in known if label is not None)


@dataclass(frozen=True)
class Rows:
    """What a batch gives: rows with an `image_id`, and pictures to show by their names.

    Pictures are (3, H, W) in [0, 1].
    """

    table: pd.DataFrame
    pictures: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """What a run keeps on disk, all that drawing may read.

    Attributes:
        run_dir: Of the run.
        config: Every setting, plain values.
        provenance: Versions, checksums, notes.
    """

    run_dir: Path
    config: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def all_rows(self) -> pd.DataFrame:
        """The merged table, methods in the run's order.

        Raises:
            FileNotFoundError: nothing is merged yet.
        """
        rows = read(self.run_dir)
        if "method" not in rows:
            return rows
        order = {name: number for number, name in enumerate(self.config.get("method", {}))}
        place = rows["method"].map(order).fillna(len(order))
        return rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)

    @property
    def rows(self) -> pd.DataFrame:
        """Those that count in the statistics."""
        return self.all_rows[self.all_rows["measured"]]

    @property
    def shown(self) -> pd.DataFrame:
        """Those that the figure shows, in its order."""
        own = self.all_rows[self.all_rows["shown"].notna()]
        return own.sort_values("shown", kind="stable")

    @property
    def methods(self) -> list[str]:
        """Labels of the methods that have rows, in the run's order."""
        return list(self.all_rows["method"].unique()) if "method" in self.all_rows else []

    def picture(self, *words: object) -> NDArray[np.uint8]:
        """(H, W, 3) of a stored picture, by the words of its name, such as model and id."""
        return stored_picture(self.run_dir, " ".join(map(str, words)))

    @property
    def seed(self) -> int:
        """Of bootstraps."""
        return int(self.config.get("seed", 0))

    @property
    def loss(self) -> str:
        """Name of the loss."""
        chosen = self.config.get("loss")
        return str(chosen["_target_"] if isinstance(chosen, Mapping) else chosen).split(".")[-1]

    @property
    def note(self) -> str:
        """What was left out, each sentence once."""
        return " ".join(dict.fromkeys(filter(None, self.provenance.get("notes", {}).values())))


@dataclass
class Experiment:
    """A dataclass whose fields are its own settings (`runner.*`).

    Attributes:
        title: One line for lists and reports.
        claim: What the paper says, in one or two sentences.
        uses: Which of `CHOICES` change something; the others are refused.
        labelled: Whether pictures need labels.
        needs_guide: Whether there must be a guide.
        one_guide: Whether it is one picture: neither several nor one chosen by the label.
        key: Columns that together name a row.
    """

    title: ClassVar[str]
    claim: ClassVar[str]
    uses: ClassVar[frozenset[str]] = frozenset()
    labelled: ClassVar[bool] = True
    needs_guide: ClassVar[bool] = False
    one_guide: ClassVar[bool] = False
    key: ClassVar[tuple[str, ...]] = ("image_id", "model")

    def check(self, choices: Choices) -> None:
        """Refuse what cannot work, before any weights are loaded.

        Raises:
            ValueError: naming the setting, what it may be, and what to do.
        """
        if self.needs_guide and not choices.guide.is_shown:
            name = self.title.partition(":")[0]
            raise InputError(f"{name} needs a guide; pass guide=right, left, top or bottom")
        if self.one_guide and (len(choices.guide.images) > 1 or choices.guide.is_chosen):
            name = self.title.partition(":")[0]
            raise InputError(f"{name} takes one guide; pass one guide.image=CLASS or FILE")
        choices.pictures.check(labels=self.labelled)

    def models(self, choices: Choices, device: torch.device) -> Iterator[ViT]:
        """The models, loaded one after the other."""
        yield from choices.models.load(device)

    def items(self, study: Study) -> Selection:
        """All units of work in order, complete: the run divides them afterwards."""
        raise NotImplementedError

    def to_study(self, study: Study) -> Selection:
        """The items, without those of which no rows would be made."""
        return self.items(study)

    def inputs(self, study: Study, item: Item, sample: Sample) -> Any:  # noqa: ARG002
        """What `rows` needs of a picture, by default its view; data workers do this."""
        return to_view(study.vit, sample)

    def kind(self, study: Study, item: Item) -> Hashable:  # noqa: ARG002
        """What an item shares with those that cost the same; `stage=check` times each kind."""
        return item.part, item.shown is not None

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """Rows of a batch of inputs, all rows of an item together."""
        raise NotImplementedError

    def draw(self, stored: Stored) -> Findings:
        """Figure, tables and claims from what is stored, without model or data."""
        raise NotImplementedError


@dataclass(frozen=True)
class Work:
    """Where a task works.

    Attributes:
        run_dir, device: Of the run.
        settings: The run's plain settings: seed, precision.
        console: Where to print.
        results: Key columns to the table of this run, for writing; a context that holds its lock.
    """

    run_dir: Path
    device: torch.device
    settings: Any
    console: Any
    results: Any


@dataclass
class Task(Experiment):
    """An experiment that is no loop over pictures, such as a training."""

    def work(self, choices: Choices, work: Work) -> None:
        """Do what is not yet done, and store it step by step."""
        raise NotImplementedError
