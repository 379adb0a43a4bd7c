"""Metrics of one's own: a file NAME.py with `score(prompts, completions, **columns)` is the judge NAME of every suite."""
