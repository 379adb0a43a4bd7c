"""Alignment: PPO and DPO, and how far optimising a proxy may go. The trainers are imported when first asked for."""

from typing import Any

_PLACES = {"PPOConfig": "alignment.ppo.config", "PPOTrainer": "alignment.ppo.trainer"}
__all__ = ["PPOConfig", "PPOTrainer"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'alignment' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
