"""Shapes of texts: each is a function that casts a Scene, makes events happen and tells them. Importing this fills SHAPES."""

from functools import cache
from importlib import import_module

from recipes.tinytown.breadth import Breadth
from recipes.tinytown.shapes.registry import SHAPES, Shape, shape

for _name in (
    *("finding", "giving", "making", "outings", "trouble"),  # stories
    "tales",
    *("letters", "dialogues", "descriptions", "howtos", "echoes"),
):
    import_module(f"{__name__}.{_name}")  # its shapes register themselves


@cache
def shapes_of(breadth: Breadth) -> tuple[Shape, ...]:
    """The shapes that texts of this breadth are told in: some of each kind, held-out ones included, but every tale."""
    left_out = {"story", "tale"} - {breadth.stories}
    kinds: dict[tuple[str, bool], list[Shape]] = {}
    for each in SHAPES.values():
        if each.kind not in left_out:
            kinds.setdefault((each.kind, each.is_held_out), []).append(each)
    chosen = {
        each for (kind, _), group in kinds.items() for each in (group if kind == "tale" else breadth.spread(group))
    }
    return tuple(each for each in SHAPES.values() if each in chosen)


__all__ = ["SHAPES", "Shape", "shape", "shapes_of"]
