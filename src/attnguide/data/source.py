"""One door to every set of pictures: whatever form it has, ids, labels and a way to load."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attnguide.data.find import find_pictures
from attnguide.data.folders import is_wnid
from attnguide.data.pictures import Listing, UnreadableImage
from attnguide.errors import InputError
from attnguide.types import ViT

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSource:
    """A fixed choice of pictures, loaded one at a time.

    Attributes:
        ids: Name of each picture, unique.
        labels: Class index of the model for each, None where the class is not known.
        load: Number to upright RGB picture; raises `UnreadableImage`.
        form: What was found and where, for logs and records.
        on_error: What becomes of an unreadable picture: "skip" or "raise".
        excluded: How many pictures were left out because of their class.
    """

    ids: tuple[str, ...]
    labels: tuple[int | None, ...]
    load: Callable[[int], Image.Image]
    form: str
    on_error: str = "skip"
    excluded: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """Checksum of ids and labels; the order does not matter."""
        rows = sorted(f"{name}\t{label}" for name, label in zip(self.ids, self.labels, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def select(self, indices: Sequence[int]) -> ImageSource:
        """These pictures only, in the given order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            load=partial(_load_selected, self.load, tuple(indices)),
        )

    def require_labels(self) -> tuple[int, ...]:
        """The labels, where every picture has one.

        Raises:
            ValueError: some have none; says how to give them.
        """
        known = tuple(label for label in self.labels if label is not None)
        if len(known) < len(self):
            first = self.ids[self.labels.index(None)]
            raise InputError(
                f"{len(self) - len(known)} of {len(self)} pictures have no label, such as {first} "
                f"({self.form}); put them into folders named by class or wnid, or add a csv with "
                "the columns filename and label, or use target=predicted, an index or a class name"
            )
        return known

    def pictures(self) -> Iterator[tuple[int, Image.Image]]:
        """All that can be read, with their numbers; the others by `unreadable`."""
        for index in range(len(self)):
            try:
                picture = self.load(index)
            except UnreadableImage as error:
                self.unreadable(error)
            else:
                yield index, picture

    def unreadable(self, error: UnreadableImage) -> None:
        """Tell of a picture that is skipped, or refuse it, as `on_error` says."""
        if self.on_error == "raise":
            raise error
        log.warning("skipped: %s", error)


class IndexedImages(Dataset["tuple[int, Tensor] | None"]):
    """A source as a map-style data set; works with loader workers.

    Items are (number in the source, tensor), or None for an unreadable picture that is skipped.

    Args:
        source: The pictures.
        transform: Picture to tensor.
        indices: Which of them; all by default.
    """

    def __init__(
        self,
        source: ImageSource,
        transform: Callable[[Image.Image], Tensor],
        indices: Sequence[int] | None = None,
    ) -> None:
        self.source, self.transform = source, transform
        self.indices = tuple(range(len(source)) if indices is None else indices)
        self.ids = tuple(source.ids[index] for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> tuple[int, Tensor] | None:
        index = self.indices[number]
        try:
            return index, self.transform(self.source.load(index))
        except UnreadableImage as error:
            self.source.unreadable(error)
            return None


def open_source(
    vit: ViT,
    *,
    name: str = "creatures",
    root: str | os.PathLike[str] | None = None,
    on_error: str = "skip",
    seed: int = 0,
    num_images: int | None = None,
    shard: int = 0,
    num_shards: int = 1,
    exclude: Iterable[int] = (),
) -> ImageSource:
    """Find pictures by looking, give their classes the model's numbers, and choose a share.

    Args:
        vit: Its classes number the labels.
        name: "creatures", "creature_pairs", or what the pictures at `root` are called.
        root: Folder, parquet file, or "hf://owner/dataset"; else the environment's IMAGENET_DIR,
            except for creatures.
        on_error: "skip" or "raise" for pictures that cannot be read.
        seed: Of the choice; for creatures, of the world.
        num_images: How many, evenly over classes; all by default.
        shard: Which part, from 0.
        num_shards: How many equal, contiguous parts there are.
        exclude: Classes to leave out after the choice; they are counted.

    Raises:
        ValueError: nothing there, or not what it seems; says what was expected and what to do.
    """
    listing = find_pictures(name, root, seed=seed, num_images=num_images)
    if len(set(listing.ids)) < len(listing.ids):
        twice = next(i for i in listing.ids if listing.ids.count(i) > 1)
        raise InputError(f"the picture {twice} appears twice in: {listing.form}; remove one")
    labels = _labels(listing, vit)
    chosen = sample(listing.ids, labels, num_images, seed)
    if num_images is not None and len(chosen) < num_images:
        log.warning("asked for %d pictures, found %d", num_images, len(chosen))
    refused = set(exclude)
    kept = [index for index in chosen if labels[index] not in refused]
    source = ImageSource(listing.ids, labels, listing.load, listing.form, on_error)
    start, stop = (len(kept) * part // num_shards for part in (shard, shard + 1))
    source = replace(source.select(kept[start:stop]), excluded=len(chosen) - len(kept))
    log.info("%s; using %d, leaving out %d by class", listing.form, len(source), source.excluded)
    return source


def _labels(listing: Listing, vit: ViT) -> tuple[int | None, ...]:
    """The model's number of each picture's class.

    Where the model knows none of the classes, the pictures count as unlabelled.

    Raises:
        ValueError: the model knows some classes but not all; they are listed.
    """
    numbers: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for key in sorted({key for key in listing.keys if key is not None}):
        try:
            spelled = key if is_wnid(key) or key in vit.class_names else key.replace("_", " ")
            numbers[key] = vit.class_index(spelled)
        except ValueError as error:
            unknown[key] = str(error)
    if unknown and numbers:
        key, reason = next(iter(unknown.items()))
        raise InputError(
            f"{len(unknown)} classes of the pictures are none of {vit.name}'s: "
            f"{', '.join(list(unknown)[:5])}; {reason} ({listing.form})"
        )
    if unknown:
        log.warning("%s knows none of the classes of %s: no labels", vit.name, listing.form)
    return tuple(numbers.get(key) if key is not None else None for key in listing.keys)


def sample(
    ids: Sequence[str], labels: Sequence[int | None], count: int | None, seed: int
) -> list[int]:
    """Numbers of `count` pictures, as evenly over classes as they go, in their own order.

    Within a class the pictures with the smallest sha256 of "<seed>:<file name>" come first, so
    the choice depends on names alone, and a larger one contains a smaller one. With fewer
    pictures than classes, the classes too are taken by their hashes.
    """
    if count is None or count >= len(ids):
        return list(range(len(ids)))

    def rank(text: str) -> str:
        return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

    classes: dict[int | None, list[int]] = defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda i: rank(ids[i].rsplit("/", 1)[-1])):
        classes[labels[index]].append(index)
    order = sorted(
        (turn, rank(f"class {label}"), index)
        for label, members in classes.items()
        for turn, index in enumerate(members)
    )
    return sorted(index for _, _, index in order[:count])


def _load_selected(
    load: Callable[[int], Image.Image], indices: tuple[int, ...], index: int
) -> Image.Image:
    return load(indices[index])
