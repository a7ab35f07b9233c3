"""A file in a form becomes a track; whatever is wrong with it is told at once, and nothing of it stays."""

from __future__ import annotations

from tests.tracks.conftest import Studio
from tests.tracks.wire import part


async def test_a_form_becomes_a_track(studio: Studio, song: bytes) -> None:
    reply = await studio.upload(
        part("title", "  A   Tiny Song "),
        part("file", song, "../../etc/My_song (1).mp3", "Content-Type: audio/mpeg"),
        part("tags", "Techno, #House,techno , deep  house,"),
        part("is_public", "off"),
        part("colour", "unknown fields mean nothing"),
    )
    assert reply.status == 201, reply.body
    track = reply.data
    assert track["title"] == "A Tiny Song" and track["filename"] == "My_song (1).mp3"
    assert track["tags"] == ["techno", "house", "deep house"] and track["is_public"] is False
    assert track["kind"] == "audio" and track["extension"] == "mp3" and track["size"] == len(song)
    assert track["owner"]["id"] == studio.me.id
    assert reply.headers["location"] == f"/api/v1/tracks/{track['id']}"
    assert studio.library.original(track["name"], "mp3").read_bytes() == song
    assert not studio.leftovers()
    assert (await studio.ask("GET", f"/tracks/{track['id']}")).data["title"] == "A Tiny Song"
