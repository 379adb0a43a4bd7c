"""Shapes of texts: each is a function that casts a Scene, makes events happen and tells them. Importing this fills SHAPES."""

from __future__ import annotations

from recipes.tinytown.shapes.registry import SHAPES, Shape, shape

from recipes.tinytown.shapes import descriptions, dialogues, finding, giving, howtos, letters, making, outings, trouble  # noqa: F401  isort: skip  (they register themselves)

__all__ = ["SHAPES", "Shape", "shape"]
