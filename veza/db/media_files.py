"""What the media door needs to know of tracks: which file a public name stands for, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class MediaFile(msgspec.Struct, frozen=True):
    """A track's files. `filename` is what its uploader called the original, if he did."""

    extension: str
    content_type: str
    filename: str | None
    has_hls: bool


async def by_names(conn: Any, names: Sequence[str]) -> Mapping[str, MediaFile]:
    """The tracks of these names that can be heard: whoever has a signed address may, so nobody is asked who he is.

    One that is still being processed is heard already, as it was uploaded; one whose processing failed is not.
    """
    rows = await conn.fetch(
        """
        SELECT name, extension, content_type, filename, has_hls FROM tracks
        WHERE name = ANY($1::text[]) AND status <> 'failed'
        """,
        list(names),
    )
    return {row[0]: MediaFile(*row[1:]) for row in rows}
