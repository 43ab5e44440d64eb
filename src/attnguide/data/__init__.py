"""Pictures to explain: drawn creatures, and photographs in any form they come in."""

from attnguide.data.creatures.world import Creatures
from attnguide.data.photographs import Photographs
from attnguide.data.pictures import Item, Pictures, Sample, Selection, share

__all__ = ["Creatures", "Item", "Photographs", "Pictures", "Sample", "Selection", "share"]
