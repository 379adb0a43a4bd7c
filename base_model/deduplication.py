"""datatrove blocks that make its duplicate removal keep the first copy in the corpus, and only take out what is alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig


class Positions(PipelineStep):
    """Passes documents on and writes the corpus positions of this rank's to <folder>/<rank>.npy."""

    type, name = "🔢 - COUNT", "positions"

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        positions = []
        for doc in data:
            positions.append(doc.metadata["position"])
            yield doc
        np.save(Path(self.folder) / f"{rank:06d}.npy", np.array(positions, dtype=np.int64))


class VerifyPairs(PipelineStep):
    """Keeps of the pairs that share a MinHash bucket those whose whole signatures agree in at least `threshold` of their hashes.

    That share estimates the Jaccard similarity s of the two sets of word runs, with standard deviation sqrt(s (1 - s) / hashes).
    Buckets alone let through many pairs of middling similarity where a corpus has texts of one pattern by the thousand."""

    type, name = "🫂 - DEDUP", "verify pairs"

    def __init__(self, pairs: str, signatures: str, config: MinhashConfig, threshold: float) -> None:
        super().__init__()
        self.pairs, self.signatures, self.config, self.threshold = pairs, signatures, config, threshold

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        files = sorted(Path(self.pairs).glob("*.dups"))
        found = [np.fromfile(path, dtype="<u4").reshape(-1, 4).astype(np.int64) for path in files]
        pairs = np.unique(np.concatenate(found), axis=0)  # file and document of either
        left, right = (pairs[:, i] << 32 | pairs[:, i + 1] for i in (0, 2))
        wanted = np.unique(np.concatenate([left, right]))
        agreeing = np.zeros(len(pairs), dtype=np.int64)
        for bucket in range(self.config.num_buckets):
            hashes = self._hashes(bucket, wanted)
            agreeing += (hashes[np.searchsorted(wanted, left)] == hashes[np.searchsorted(wanted, right)]).sum(axis=1)
        is_near = agreeing >= self.threshold * self.config.num_buckets * self.config.hashes_per_bucket
        for path in files:
            path.write_bytes(b"")
        pairs[is_near].astype("<u4").tofile(files[0])
        self.stat_update("pairs", value=len(pairs))
        self.stat_update("verified", value=int(is_near.sum()))

    def _hashes(self, bucket: int, wanted: np.ndarray) -> np.ndarray:
        """This bucket's hashes of the wanted documents, in their order."""
        width = self.config.hashes_per_bucket
        dtype = np.dtype([("hashes", self.config.hash_config.np_dtype, width), ("document", "<u4")])
        hashes = np.zeros((len(wanted), width), dtype=self.config.hash_config.np_dtype)
        for path in (Path(self.signatures) / f"bucket_{bucket:03d}").glob("*.minhash.sig"):
            if path.stat().st_size:
                records = np.memmap(path, dtype=dtype, mode="r")
                keys = int(path.name.split(".")[0]) << 32 | records["document"].astype(np.int64)
                places = np.searchsorted(wanted, keys).clip(max=max(len(wanted) - 1, 0))
                is_wanted = wanted[places] == keys if len(wanted) else np.zeros(len(keys), dtype=bool)
                hashes[places[is_wanted]] = records["hashes"][is_wanted]
        return hashes


class KeepFirst(PipelineStep):
    """Rewrites the removal lists of datatrove's MinHash clusters so that the document that came first in the corpus stays.

    datatrove keeps the root of its union-find, any one of the cluster; which copy stays then depends on the number of tasks."""

    type, name = "🫂 - DEDUP", "keep first"

    def __init__(self, clusters: str, positions: str) -> None:
        super().__init__()
        self.clusters, self.positions = clusters, positions

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        rows = []  # file, document in the file, cluster, position in the corpus
        for path in sorted(Path(self.clusters).glob("*.clusters")):
            documents, clusters = np.fromfile(path, dtype="<u4").reshape(-1, 2).astype(np.int64).T
            positions = np.load(Path(self.positions) / f"{path.stem}.npy", mmap_mode="r")[documents]
            rows.append(np.stack([np.full_like(documents, int(path.stem)), documents, clusters, positions], axis=1))
        if not rows:
            return
        table = np.concatenate(rows)
        table = table[np.lexsort((table[:, 3], table[:, 2]))]
        is_first = np.r_[True, table[1:, 2] != table[:-1, 2]]
        for file in np.unique(table[:, 0]):
            documents = table[(table[:, 0] == file) & ~is_first, 1]
            np.sort(documents).astype("<u4").tofile(Path(self.clusters) / f"{file:06d}.remove")


def content(doc: Document) -> str:
    """What exact duplicates share."""
    return doc.text.strip()


def priority(doc: Document) -> int:
    """Earlier documents come first: exact among the first 65,534, after which datatrove goes by place in the file."""
    return max(1, 65_535 - doc.metadata["position"])
