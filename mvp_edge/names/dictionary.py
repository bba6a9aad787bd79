"""The nouns of WordNet 3.0, shipped inside the package and read by NLTK's reader without a download."""

from __future__ import annotations

import gzip
import io
import warnings
from functools import cache
from importlib.resources import files
from typing import Any

from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader, WordNetError
from nltk.data import PathPointer


def _content(file: str) -> bytes:
    folder = files("mvp_edge") / "assets" / "wordnet"
    packed = folder / f"{file}.gz"
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    plain = folder / file
    # The reader insists on verbs, adjectives and adverbs; only nouns are shipped.
    return plain.read_bytes() if plain.is_file() else b""


class PackagedFile(PathPointer):
    """One file of the packaged dictionary.

    An open file lies in memory: there is nothing to close, and forked processes share no file position.
    """

    def __init__(self, file: str = "") -> None:
        self._file = file

    def open(self, encoding: str | None = None) -> Any:
        """Return a seekable stream of the unpacked file; its positions are byte offsets, because the file is ASCII."""
        stream = io.BytesIO(_content(self._file))
        return stream if encoding is None else io.TextIOWrapper(stream, encoding=encoding)

    def file_size(self) -> Any:
        """Return the bytes of the unpacked file."""
        return len(_content(self._file))

    def join(self, fileid: str) -> Any:
        """Return the pointer to the file `fileid`."""
        return PackagedFile(fileid)


class NounReader(WordNetCorpusReader):
    """NLTK's reader on the packaged nouns."""

    def open(self, file: str) -> Any:
        """Return a text stream of a dictionary file.

        NLTK's own `open` takes only files below its data folders that no other account owns or can write to. A shared
        or group-writable installation of this package fails that, although the dictionary is part of our own code.
        """
        return PackagedFile(file).open(encoding="ascii")

    def map_wn(self, version: str = "wordnet") -> None:
        """Skip the mapping from WordNet 3.0: this is WordNet 3.0, and the mapping would ask for NLTK's downloads."""

    def at_offset(self, offset: int) -> Synset | None:
        """Return the noun synset at a byte offset (the number of a wnid), or `None`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return self.synset_from_pos_and_offset("n", offset)

    def named(self, name: str) -> Synset | None:
        """Return the noun synset of a name such as `crane.n.05`, or `None`."""
        try:
            return self.synset(name)
        except WordNetError:
            return None


@cache
def nouns() -> NounReader:
    """Return the reader, loaded at the first call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions are not available")
        return NounReader(PackagedFile(), None)
