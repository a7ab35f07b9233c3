"""Finding tracks, seeing and changing one, and who may do what with whose."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import pytest

from tests.tracks.conftest import Open, Studio, until
from veza import app
from veza.actors import track_intake, track_rules
from veza.tidy import again_and_again

pytestmark = pytest.mark.usefixtures("trusting")


async def shelf(studio: Studio, **words: str) -> Any:
    """A public track that can be heard."""
    track = await studio.track(**words)
    await studio.ready(track["id"])
    return track


async def titles(studio: Studio, query: str, token: str | None = None) -> list[str]:
    reply = await studio.ask("GET", f"/tracks?{query}", token=token)
    assert reply.status == 200, reply.body
    assert reply.json["meta"]["total"] == reply.data["total"] >= len(reply.data["tracks"])
    return [track["title"] for track in reply.data["tracks"]]


async def test_lists(studio: Studio) -> None:
    word = f"w{studio.me.id}w"  # the database is shared: only what bears this word is ours
    await shelf(studio, title=f"Heroes {word}", artist="David Bowie", genre="Art Rock", tags=f"{word},berlin")
    await shelf(
        studio, title=f"Low {word}", artist="David Bowie", genre="art rock", tags=f"{word},berlin,1977"
    )
    await shelf(studio, title=f"100%_{word}", artist=f"Band {word}", album="Sound and Vision", tags=word)
    hidden = await shelf(studio, title=f"Private {word}", is_public="false", tags=word)
    await studio.track(title=f"Unfinished {word}", tags=word)
    failed = await studio.track(title=f"Failed {word}", tags=word)
    await studio.ready(failed["id"], status="failed", failure="It is broken.")
    new = [f"100%_{word}", f"Low {word}", f"Heroes {word}"]
    for token in (None, studio.me.token):
        assert await titles(studio, f"tags={word}", token) == new
    assert await titles(studio, f"tags={word}&sort=title") == [new[0], new[2], new[1]]
    assert await titles(studio, f"tags=%20{word.upper()},%20%23Berlin") == new[1:]
    assert await titles(studio, f"search={word}") == new
    assert await titles(studio, f"search=bowie+{word}+he") == [new[2]]
    assert await titles(studio, f"search=VISION+{word}") == [new[0]]
    assert await titles(studio, f"search=100%25_{word}") == [new[0]]
    assert await titles(studio, f"search=1__%25_{word}") == []
    assert await titles(studio, f"search=%25_&uploader={studio.me.id}") == []
    assert await titles(studio, f"search=10&uploader={studio.me.id}") == [new[0]]
    assert await titles(studio, f"genre=ART+ROCK&uploader={studio.me.name.upper()}") == new[1:]
    assert await titles(studio, f"artist=band+{word}") == [new[0]]
    assert await titles(studio, f"uploader={studio.me.id}&limit=2") == new[:2]
    assert await titles(studio, f"uploader={studio.me.id}&limit=2&page=2") == new[2:]
    assert await titles(studio, f"uploader={10**30}") == []
    popular = (await studio.ask("GET", f"/tracks?tags={word}&search=low")).data["tracks"][0]
    await studio.ready(popular["id"], play_count=5)
    assert (await titles(studio, f"tags={word}&sort=popular"))[0] == f"Low {word}"

    mine = (await studio.ask("GET", "/tracks/my?limit=4")).data
    assert mine["total"] == 6 and [t["title"] for t in mine["tracks"]][:2] == [
        f"Failed {word}",
        f"Unfinished {word}",
    ]
    assert mine["tracks"][0]["failure"] == "It is broken."
    assert (await studio.ask("GET", "/tracks/my?status=processing")).data["total"] == 1

    tags = (await studio.ask("GET", f"/tracks/tags?search={word[:-1]}")).data["tags"]
    assert tags == [{"tag": word, "count": 3}]
    genres = (await studio.ask("GET", "/tracks/genres")).data["genres"]
    assert [g["count"] for g in genres if g["genre"].lower() == "art rock"] == [2]

    other = await studio.house.person()
    assert (await studio.ask("GET", f"/tracks/{hidden['id']}", token=other.token)).status == 404
    await studio.house.sql("UPDATE users SET is_active = false WHERE id = $1", studio.me.id)
    assert await titles(studio, f"tags={word}") == []
    assert (await studio.ask("GET", f"/tracks/{popular['id']}", token=None)).status == 404
    await studio.house.sql("UPDATE users SET is_active = true WHERE id = $1", studio.me.id)


async def test_what_lists_cannot_be_asked(studio: Studio) -> None:
    long = "x" * 101
    for query in ("sort=best", "page=0", "limit=101", "page=101&limit=100", f"search={long}", "tags=%00"):
        reply = await studio.ask("GET", f"/tracks?{query}")
        assert (reply.status, reply.code) == (400, "VALIDATION_ERROR"), query


async def test_changing(studio: Studio) -> None:
    track = await studio.track(title="Before", artist="Somebody", tags="a,b")
    path = f"/tracks/{track['id']}"
    reply = await studio.ask(
        "PUT",
        path,
        {
            "title": " After  all ",
            "artist": None,
            "tags": ["B", "#C"],
            "is_public": False,
            "size": 1,
            "status": "ready",
        },
    )
    assert reply.status == 200, reply.body
    assert reply.data["title"] == "After all" and reply.data["artist"] is None
    assert reply.data["tags"] == ["b", "c"] and reply.data["is_public"] is False
    assert reply.data["status"] == track["status"] and reply.data["size"] == track["size"]
    assert (await studio.ask("PUT", path, {"tags": "x, y"})).data["tags"] == ["x", "y"]
    assert (await studio.ask("PUT", path, {"tags": None})).data["tags"] == []
    assert (await studio.ask("PUT", path, {})).data["title"] == "After all"
    wrong: list[dict[str, Any]] = [
        {"title": " "},
        {"title": None},
        {"title": "x" * 201},
        {"genre": "a\nb"},
        {"tags": ["x" * 31]},
        {"tags": [1]},
        {"is_public": "yes"},
        {"description": "\0"},
    ]
    for change in wrong:
        reply = await studio.ask("PUT", path, change)
        assert (reply.status, set(reply.json["details"])) == (400, set(change)), change


async def test_other_peoples_tracks(studio: Studio) -> None:
    hidden, shown = await studio.track(), await shelf(studio)
    other, moderator = await studio.house.person(), await studio.house.person(role="moderator")
    for track, status in ((hidden, 404), (shown, 403)):
        path = f"/tracks/{track['id']}"
        for method, place, body in (
            ("PUT", path, {"title": "Mine"}),
            ("DELETE", path, b""),
            ("GET", f"{path}/stats", b""),
        ):
            assert (await studio.ask(method, place, body, token=other.token)).status == status
            assert (await studio.ask(method, place, body, token=None)).status == 401
    assert (
        await studio.ask("PUT", f"/tracks/{shown['id']}", {"title": "x"}, token=moderator.token)
    ).status == 403
    for place in ("", "/stream", "/peaks", "/cover", "/download"):
        assert (await studio.ask("GET", f"/tracks/{hidden['id']}{place}", token=other.token)).status == 404
    assert (
        await studio.ask("POST", f"/tracks/{hidden['id']}/play", {"listened_s": 1}, token=None)
    ).status == 404
    for name in ("0", "999999999999", "9" * 19):
        assert (await studio.ask("GET", f"/tracks/{name}")).code == "TRACK_NOT_FOUND"


async def test_deleting(studio: Studio) -> None:
    mine, other = await shelf(studio), await shelf(studio)
    moderator = await studio.house.person(role="moderator")
    original = studio.directory(mine) / "original.mp3"
    with original.open("rb") as reader:  # whoever is hearing it goes on
        assert (await studio.ask("DELETE", f"/tracks/{mine['id']}")).status == 200
        assert not studio.directory(mine).exists()
        assert reader.read() == b"not looked at"
    assert (await studio.ask("DELETE", f"/tracks/{mine['id']}")).status == 404
    assert (await studio.ask("DELETE", f"/tracks/{other['id']}", token=moderator.token)).status == 200
    assert not studio.directory(other).exists()
    noted = await studio.house.sql(
        "SELECT actor_id, details->>'owner_id' FROM audit_log WHERE action = 'track.delete' AND target_id = ANY ($1)",
        [mine["id"], other["id"]],
    )
    assert [tuple(row) for row in noted] == [(moderator.id, str(studio.me.id))]
    left = await studio.house.sql(
        "SELECT 1 FROM media_jobs WHERE track_id = ANY ($1)", [mine["id"], other["id"]]
    )
    assert not left


async def test_where_its_bytes_are(studio: Studio) -> None:
    track = await shelf(studio)
    path = f"/tracks/{track['id']}"
    urls = (await studio.ask("GET", f"{path}/stream", token=None)).data
    assert urls["hls_url"] is None and urls["content_type"] == "audio/mpeg"
    url = httpx.URL(urls["url"])
    services = studio.house.app.services
    expires, sig = url.params["expires"], url.params["sig"]
    assert url.path == f"/stream/{track['name']}"
    assert services.signer.verify(track["name"], expires, sig, time.time())
    assert 6 * 3600 - 60 < int(expires) - time.time() <= 6 * 3600
    await studio.ready(track["id"], has_hls=True)
    urls = (await studio.ask("GET", f"{path}/stream?absolute=true", token=None)).data
    assert urls["hls_url"].startswith("https://veza.example/hls/")
    assert urls["url"].startswith("https://veza.example/stream/")
    reply = await studio.ask("GET", f"{path}/download", token=None)
    assert reply.status == 302
    assert reply.headers["location"].endswith("&download=1")
    assert reply.headers["location"].startswith(f"/stream/{track['name']}?expires=")


async def test_waveform_and_cover_may_be_kept(studio: Studio) -> None:
    track = await shelf(studio, is_public="false")
    path = f"/tracks/{track['id']}"
    for place in ("peaks", "cover"):
        assert (await studio.ask("GET", f"{path}/{place}")).status == 404
    peaks = b'{"version":1,"points":2,"min":[-1,-2],"max":[3,4]}'
    (studio.directory(track) / "peaks.json").write_bytes(peaks)
    (studio.directory(track) / "cover.webp").write_bytes(b"a picture")
    await studio.ready(track["id"], has_cover=True)
    reply = await studio.ask("GET", f"{path}/peaks")
    assert reply.data == {"version": 1, "points": 2, "min": [-1, -2], "max": [3, 4]}
    cover = await studio.ask("GET", f"{path}/cover")
    assert cover.headers["content-type"] == "image/webp" and cover.body == b"a picture"
    for place, first in (("peaks", reply), ("cover", cover)):
        assert "immutable" in first.headers["cache-control"] and "private" in first.headers["cache-control"]
        again = await studio.ask("GET", f"{path}/{place}", headers={"if-none-match": first.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        assert (await studio.ask("GET", f"{path}/{place}", token=None)).status == 404


async def test_files_nobody_names_are_swept(studio: Studio) -> None:
    kept, orphan = await studio.track(), await studio.track()
    await studio.house.sql("DELETE FROM tracks WHERE id = $1", orphan["id"])
    young = studio.library.track("young")
    young.mkdir()
    for track in (kept, orphan):
        os.utime(studio.directory(track), (0, 0))
    services = studio.house.app.services
    assert await track_intake.sweep(services.db, services.library) == 1
    assert studio.directory(kept).exists() and young.exists() and not studio.directory(orphan).exists()


async def test_a_server_that_starts_sweeps(open_studio: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_studio() as studio:
        orphan = await studio.track()
        directory = studio.directory(orphan)
        await studio.house.sql("DELETE FROM tracks WHERE id = $1", orphan["id"])
        os.utime(directory, (0, 0))
    monkeypatch.setattr(app, "again_and_again", again_and_again)
    async with open_studio():
        await until(lambda: not directory.exists())


def test_how_words_are_written() -> None:
    assert track_rules.tags(" Drum  & Bass,,#LoFi, lofi ,Ａ") == ["drum & bass", "lofi", "ａ"]
    assert track_rules.filename("C:\\music\\a\x00b.mp3") == "a b.mp3"
    assert track_rules.filename("/") is None and track_rules.filename("..") is None
    long = track_rules.filename("x" * 300 + ".flac")
    assert long is not None and len(long) == 255 and long.endswith(".flac")
    assert track_rules.title_from("01_-_My Song.v2.mp3") == "01 - My Song.v2"
    assert track_rules.title_from(".mp3") == ".mp3" and track_rules.title_from(None) == "Untitled"
    assert track_rules.title_from("Vol. 3") == "Vol. 3"
