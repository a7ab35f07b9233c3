"""Looks into one file for `checking.py` and says what it is, as one line of JSON; run with `-m`, never imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from veza.media.confine import confine

MEMORY: Final = 1024 * 1024 * 1024
SECONDS: Final = 20  # of the processor
ENOUGH: Final = 10  # frames; a handful may come of noise
PATIENCE: Final = 2_000  # packets without a single frame


def main() -> None:
    confine(memory=MEMORY, largest_file=0, seconds=SECONDS)
    import msgspec

    from veza.media.opening import Unplayable

    try:
        said: dict[str, Any] = {"checked": look(Path(sys.argv[1]))}
    except Unplayable as unplayable:
        said = {"reason": unplayable.reason}
    except MemoryError:
        said = {"reason": "The file takes too much memory to decode."}
    sys.stdout.write(msgspec.json.encode(said).decode() + "\n")


def look(path: Path) -> dict[str, Any]:
    """What `Checked` holds. Raises Unplayable."""
    from veza.media.containers import name_of
    from veza.media.decoding import frames_of
    from veza.media.opening import Unplayable, film_of, head_of, open_media, sound_of

    with open_media(path) as container:
        film, sound = film_of(container), sound_of(container)
        stream = sound or film
        if stream is None:
            raise Unplayable("There is a picture in this file, but neither sound nor film.")
        if not _begins(frames_of(container, [stream], patience=PATIENCE)):
            raise Unplayable("Nothing in this file can be decoded.")
        name = name_of(
            container.format.name,
            head_of(path),
            sound.codec_context.name if sound is not None else None,
            video=film is not None,
            brand=container.metadata.get("major_brand", ""),
        )
        duration = container.duration
        return {
            "kind": "audio" if film is None else "video",
            "extension": name.extension,
            "content_type": name.content_type,
            "duration_ms": duration // 1000 if duration is not None and duration > 0 else None,
        }


def _begins(frames: Iterator[Any]) -> bool:
    count = 0
    for _ in frames:
        count += 1
        if count == ENOUGH:
            break
    return count > 0


if __name__ == "__main__":
    main()
