"""datatrove blocks that read documents, keep or drop them, or change their text, where datatrove's own need a download or do not fit.

A filter names its reason; datatrove counts reasons and writes dropped documents to the step's own folder (see cleaning.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.pii import PIIFormatter, PIIReplacer
from datatrove.utils.lid import FT176LID, LID, GlotLID
from datatrove.utils.text import split_into_words
from datatrove.utils.word_tokenizers import WordTokenizer

from base_model.documents import Counts, Source, read_rows

SAMPLED_CHARS = 150  # of either end of a document; what its language is told by
JSON_TYPES = (str, int, float, bool, list, dict, type(None))


class Words(WordTokenizer):
    """Words as what stands between white space: the words that Gopher's rules were set for (arXiv:2112.11446, appendix A).

    datatrove's own choice, spaCy, makes each comma and quotation mark a word (dialogue then fails the share of alphabetic words) and takes
    1.8 ms a document of 700 characters, again in every filter; this takes 0.01 ms. For languages written with spaces."""

    _sentence_end = re.compile(r"(?<=[.!?])\s+")

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end].strip() for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        ends = [match.end() for match in self._sentence_end.finditer(text)]
        return [(a, b) for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if text[a:b].strip()]


class ReadRows(PipelineStep):
    """Documents from a Source; id is the row's `id` field, or where it stands. Writes what it met to <folder>/<rank>.json.

    kept: where this rank's documents will be written; the file is made here, since later stages find their share by counting files."""

    type, name = "📖 - READER", "rows"

    def __init__(self, source: Source, folder: str, kept: str) -> None:
        super().__init__()
        self.source, self.folder, self.kept = source, folder, kept

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        counts, characters = Counts(), 0
        (Path(self.kept) / f"{rank:05d}.jsonl").touch()
        progress = Path(self.folder) / f"{rank:05d}.progress"
        for number, row in enumerate(read_rows(self.source, counts=counts, rank=rank, world_size=world_size)):
            fields = {name: value for name, value in row.fields.items() if isinstance(value, JSON_TYPES)}
            text = fields.pop("text")
            characters += len(text)
            if number % 256 == 0:
                progress.write_text(str(number))
            position = number * world_size + rank  # in the corpus: what "the first of its copies" goes by
            yield Document(text, str(fields.pop("id", row.location)), metadata={"position": position, "fields": fields})
        progress.write_text(str(counts.read))
        met = {
            "documents": counts.read,
            "characters": characters,
            "skipped": counts.skipped,
            "examples": counts.examples,
        }
        (Path(self.folder) / f"{rank:05d}.json").write_text(json.dumps(met))


class NonEmpty(BaseFilter):
    """Drops documents of white space alone."""

    name = "empty"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return (True, "") if doc.text.strip() else (False, "empty")


class EncodingFilter(BaseFilter):
    """Drops text decoded with the wrong encoding, with lost characters, or with control characters.

    max_mojibake: ftfy's count of character sequences that hardly occur outside wrongly decoded text, per 1000 characters.
    max_controls: control characters (tab and line ends apart) per 1000 characters."""

    name = "encoding"
    _controls = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

    def __init__(self, max_mojibake: float = 1.0, max_controls: float = 1.0, exclusion_writer: Any = None) -> None:
        super().__init__(exclusion_writer)
        self.max_mojibake, self.max_controls = max_mojibake, max_controls

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        from ftfy.badness import badness

        text = doc.text
        if len(self._controls.findall(text)) * 1000 > self.max_controls * len(text):
            return False, "control_characters"
        if text.isascii():
            return True
        if "\ufffd" in text:
            return False, "replacement_character"
        if badness(text) * 1000 > self.max_mojibake * len(text):
            return False, "mojibake"
        return True


class CarriedLID(LID):
    """py3langid (a fork of langid.py; 97 languages): its model comes with the package, so it needs no download."""

    def __init__(self, languages: Sequence[str] | None = None) -> None:
        super().__init__(list(languages) if languages else None)

    def predict(self, doc: Document) -> tuple[tuple[str, float], dict[str, float]]:
        ranked = _carried_model().rank(doc.text)
        scores = dict(ranked)
        return ranked[0], {name: scores.get(name, 0.0) for name in self.languages} if self.languages else scores


@lru_cache(maxsize=1)
def _carried_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # takes most of a second


class LanguageFilter(BaseFilter):
    """datatrove's language step with a choice of identifier: "py3langid" works offline, "ft176" and "glotlid" are fastText's.

    Keeps documents of which some wanted language scores above the threshold, judged by 150 characters of either end."""

    name = "language"

    def __init__(
        self,
        languages: Sequence[str] = ("en",),
        threshold: float = 0.65,
        backend: str = "py3langid",
        exclusion_writer: Any = None,
    ) -> None:
        super().__init__(exclusion_writer)
        identifiers = {"py3langid": CarriedLID, "ft176": FT176LID, "glotlid": GlotLID}
        if backend not in identifiers:
            raise ValueError(f"language backend is {backend!r}; use one of {', '.join(identifiers)}")
        self.threshold, self.model = threshold, identifiers[backend](list(languages))

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        text = doc.text
        if len(text) > 2 * SAMPLED_CHARS:
            text = text[:SAMPLED_CHARS] + "\n" + text[-SAMPLED_CHARS:]
        best, wanted = self.model.predict(Document(text, doc.id))
        return True if max(wanted.values()) > self.threshold else (False, f"language_{best[0]}")


class BoilerplateFilter(BaseFilter):
    """Takes out lines that belong to a page and not to its text (menus, notices, buttons), and drops a document that loses half.

    max_share: of the characters that may be boilerplate before the whole document goes."""

    name = "boilerplate"
    _phrases = (  # a short line that holds one of these
        "cookie", "privacy policy", "terms of use", "terms of service", "terms and conditions", "all rights reserved", "copyright", "©",
        "click here", "newsletter", "your password", "must be logged in", "javascript", "add to basket", "add to cart", "related posts",
        "search results", "download our app", "free delivery", "free shipping", "enter your email", "sort by:", "page not found",
    )  # fmt: skip
    _whole = re.compile(  # a line that is nothing else
        r"(?:(?:sign (?:up|in)|log ?(?:in|out)|subscribe|follow us|contact us|about us|read more|back to top|advertisement|loading"
        r"|next|previous|print this page|share this|skip to content|sponsored|menu|home|search|page \d+ of \d+)"
        r"(?: (?:on|to|now|today)\b.{0,40})?(?:, please wait)?[\s.!:…»>|-]*)+"
    )
    _max_line = 90  # a longer line is prose

    def __init__(self, max_share: float = 0.5, exclusion_writer: Any = None) -> None:
        super().__init__(exclusion_writer)
        self.max_share = max_share

    def is_boilerplate(self, line: str) -> bool:
        line = line.strip().lower()
        return len(line) <= self._max_line and (
            line.count(" | ") > 1
            or any(phrase in line for phrase in self._phrases)
            or bool(self._whole.fullmatch(line))
        )

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        lines = doc.text.split("\n")
        kept = [line for line in lines if not self.is_boilerplate(line)]
        if len(kept) == len(lines):
            return True
        text = "\n".join(kept).strip()
        if len(text) < (1 - self.max_share) * len(doc.text):
            return False, "mostly_boilerplate"
        self.stat_update("changed")
        doc.text = text
        return True


class RepetitionFilter(GopherRepetitionFilter):
    """datatrove's filter, with a look first whether there is anything to measure (most texts repeat nothing): 4 times as fast.

    Keeps and drops exactly what datatrove's does."""

    name = "repetition"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return True if self._is_surely_fine(doc.text) else super().filter(doc)

    def _is_surely_fine(self, text: str) -> bool:
        lines = self._line_splitter.split(text)
        if not text or len(set(lines)) < len(lines):  # no line twice: no paragraph twice either
            return False
        words = split_into_words(text, self.language)
        least = min((n for n, _ in self.dup_n_grams), default=0)
        runs = _runs(words, least) if least else []
        if len(set(runs)) < len(runs):  # no run of the least length twice: none of a greater length either
            return False
        for n, share in self.top_n_grams:
            runs = _runs(words, n)
            if runs:
                run, count = Counter(runs).most_common(1)[0]
                if (sum(map(len, run)) + n - 1) * count > share * len(text):
                    return False
        return True


class PersonalData(PIIFormatter):
    """datatrove's replacement of email and public IP addresses, and of telephone numbers (9 to 15 digits in groups)."""

    name = "personal_data"
    _phone = r"(?<![\w.,-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]\d{3,4}(?:[ .-]\d{2,4})?(?![\w-]|[.,]\d)"
    _hint = re.compile(r"@|\d[\d ().-]{5,}\d")  # nothing that is replaced goes without

    def __init__(self, remove_phones: bool = True, phone_replacement: str = "202-555-0100", **options: Any) -> None:
        super().__init__(**options)
        self.remove_phones = remove_phones
        self.phone_replacer = PIIReplacer(self._phone, phone_replacement, self._is_phone)

    @staticmethod
    def _is_phone(text: str) -> bool:
        is_address = re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text) is not None
        return 9 <= len(re.sub(r"\D", "", text)) <= 15 and not is_address

    def format(self, text: str) -> str:
        if not self._hint.search(text):
            return text
        new = super().format(text)
        if self.remove_phones:
            new = self.phone_replacer.replace(new)
        if new != text:
            self.stat_update("changed")
        return new


class Decontaminate(BaseFilter):
    """Drops documents that share a run of words with held-out text (lower case, punctuation dropped).

    words: length of the run (13: GPT-3, arXiv:2005.14165, appendix C). A held-out string shorter than that counts as a whole when it has
    `least_words`; below, it says too little to tell a leak from a phrase. Every string in a held-out row counts, whatever its column."""

    name = "decontamination"
    _word = re.compile(r"\w+")

    def __init__(
        self, sources: Sequence[Source], words: int = 13, least_words: int = 8, exclusion_writer: Any = None
    ) -> None:
        super().__init__(exclusion_writer)
        if not 1 <= least_words <= words:
            raise ValueError(f"least_words {least_words} must be between 1 and words {words}")
        self.sources, self.words, self.least_words = sources, words, least_words
        self._index: dict[int, dict[int, str]] | None = None  # length of the run -> its hash -> where it is from

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if self._index is None:
            self._index = self._build_index()
        words = self._word.findall(doc.text.lower())
        for size, origins in self._index.items():
            runs = _runs(words, size)
            if not origins.keys().isdisjoint(map(hash, runs)):
                run = next(run for run in runs if hash(run) in origins)
                doc.metadata["shared"] = " ".join(run)
                return False, f"in_{origins[hash(run)]}"
        return True

    def _build_index(self) -> dict[int, dict[int, str]]:
        index: dict[int, dict[int, str]] = {}
        for source in self.sources:
            for row in read_rows(source, required=()):
                origin = re.sub(r"(:| row )\d+$", "", row.location).rsplit("/", 1)[-1]
                for text in strings_of(row.fields):
                    size, runs = self.runs_that_stand_for(text)
                    index.setdefault(size, {}).update((hash(run), origin) for run in runs)
        return index

    def runs_that_stand_for(self, text: str) -> tuple[int, list[tuple[str, ...]]]:
        """(length, runs of that many words) that a held-out string is known by; no runs where it says too little."""
        words = self._word.findall(text.lower())
        size = min(self.words, len(words))
        return size, _runs(words, size) if size >= self.least_words else []

    def found_in(self, text: str, sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(length, hash) of every run of these lengths in a training text."""
        words = self._word.findall(text.lower())
        return ((size, hash(run)) for size in sizes for run in _runs(words, size))


def _runs(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(size)), strict=False))


def strings_of(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_of(item)
