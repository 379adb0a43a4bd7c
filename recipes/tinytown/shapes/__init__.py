"""Shapes of texts: each is a function that casts a Scene, makes events happen and tells them. Importing this fills SHAPES."""

from importlib import import_module

from recipes.tinytown.shapes.registry import SHAPES, Shape, shape

for _name in (
    *("finding", "giving", "making", "outings", "trouble"),  # stories
    *("letters", "dialogues", "descriptions", "howtos", "echoes"),
):
    import_module(f"{__name__}.{_name}")  # its shapes register themselves

__all__ = ["SHAPES", "Shape", "shape"]
