"""Covers: the picture that came with a file, or one of a film, made anew as WebP of bounded size.

In a child process only: it decodes a stranger's picture. Nothing of it goes on but its pixels.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Final

SIDE: Final = 1000  # pixels of the longer side, at most
_PIXELS: Final = 50_000_000  # of what came; more is a bomb
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_QUALITY: Final = 82


def cover_from(data: bytes, path: Path) -> bool:
    """Make `path` of an encoded picture. False, and no file, if it cannot be decoded or is too large: a track is none
    the worse for it."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # counted here
    try:
        image: Any = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > _PIXELS or min(width, height) < 2:
            return False
        image.draft("RGB", (2 * SIDE, 2 * SIDE))  # of a JPEG only as much as is needed
        image.load()
        with contextlib.suppress(Exception):  # a broken orientation is none
            image = ImageOps.exif_transpose(image)
        return _store(image, path)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError):
        return False


def cover_of_film(frame: Any, path: Path) -> bool:
    """Make `path` of a decoded frame of a film."""
    try:
        return _store(frame.to_image(), path)
    except (OSError, ValueError, MemoryError):
        return False


def _store(image: Any, path: Path) -> bool:
    from PIL import Image

    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    image = image.convert("RGBA" if transparent else "RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.info.clear()
    made = io.BytesIO()
    image.save(made, "WEBP", quality=_QUALITY, method=4)
    path.write_bytes(made.getvalue())
    return True
