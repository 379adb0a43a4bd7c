"""The table of shapes, filled by the `@shape` decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recipes.tinytown.telling import Scene

KINDS = ("story", "letter", "dialogue", "description", "howto", "lesson", "tale")


@dataclass(frozen=True)
class Shape:
    name: str
    kind: str  # one of KINDS
    is_held_out: bool  # told in held-out files only
    weight: int  # how often it is told, against the others
    tell: Callable[[Scene], None]


SHAPES: dict[str, Shape] = {}


def shape(kind: str, *, is_held_out: bool = False, weight: int = 2):
    """Register a function `tell(scene)` as a shape under its own name."""
    assert kind in KINDS, kind

    def register(tell: Callable[[Scene], None]) -> Callable[[Scene], None]:
        assert tell.__name__ not in SHAPES, f"shape {tell.__name__} is there already"
        SHAPES[tell.__name__] = Shape(tell.__name__, kind, is_held_out, weight, tell)
        return tell

    return register
