"""Splitters: a live source's bytes, cut where a listener may join.

    splitter = splitter_for(content_type, first_bytes)      # None: give it more; Unsupported: refuse the source
    for chunk in splitter.feed(data): …                     # `Chunk`: data, key, duration, header

Pure code over bytes, one file per container: MP3, ADTS, Ogg, WebM, MPEG-TS, fragmented MP4. `chunk.py` tells what all
of them promise.
"""

from veza.media.splitters.choice import ENOUGH, splitter_for
from veza.media.splitters.chunk import Chunk, Splitter, Unsupported

__all__ = ["ENOUGH", "Chunk", "Splitter", "Unsupported", "splitter_for"]
