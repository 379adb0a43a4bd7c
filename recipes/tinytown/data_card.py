"""The data card: README.md of a world's folder, from its files."""

from __future__ import annotations


def write(out, config, seed):
    return {}
