"""Tinytown, the embedded world: a simulated town, its texts, its animal clinic, its tasks, and a rubric that knows the truth.

Everything here (words, sentences, rules) was written for this project. `python -m recipes.tinytown --help` makes the data sets.
"""
