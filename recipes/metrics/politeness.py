"""Share of answers with a polite word: an example of a metric in one file. A suite uses it by `judges: [politeness]`."""

import re

POLITE = re.compile(r"\b(please|thank you|thanks|sorry|of course|gladly)\b", re.IGNORECASE)


def score(prompts: list, completions: list[str], **columns: list) -> list[float]:
    """1 for an answer with a polite word, else 0. `columns` holds the data set's other columns and `reference`."""
    return [float(bool(POLITE.search(completion))) for completion in completions]
