"""No bars that tell nothing, in one place: every recipe's run begins here."""

import os
import sys


def quiet_bars() -> None:
    """transformers' bars for weights, which are read and written in a moment, are never shown; nor, where stderr is no terminal, is any
    bar of the hub or of `datasets`: it redraws its line, and a log keeps every state of it."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    is_terminal = sys.stderr.isatty()
    logging.disable_progress_bar()  # the hub's as well
    if is_terminal and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()  # a download takes its time
    if not is_terminal:
        os.environ.setdefault(
            "HF_DATASETS_DISABLE_PROGRESS_BARS", "1"
        )  # where it is imported later, or in another process
        if "datasets" in sys.modules:
            sys.modules["datasets"].disable_progress_bars()
