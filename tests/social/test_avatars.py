"""Avatars through the door: sent in any way clients send files, kept for ever under their hash, never in the way."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from PIL import Image

from tests.chat.conftest import Build, House, Person, build
from tests.chat.conftest import settings as settings
from tests.social.test_avatar_images import quarters, saved

__all__ = ["build"]

LIMIT = 100_000


@pytest.fixture(scope="session")
def picture() -> bytes:
    return saved(quarters(), "PNG")


@pytest.fixture
async def house(build: Build) -> AsyncIterator[House]:
    async with build(image_limit=LIMIT, rate_rest_burst=10_000) as house:
        yield house


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}", timeout=60) as client:
        yield client


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


ME = "/api/v1/users/me/avatar"


async def send(http: httpx.AsyncClient, person: Person, image: bytes, kind: str = "image/png") -> str:
    answer = await http.post(ME, content=image, headers={**bearer(person), "Content-Type": kind})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["avatar"])


def decoded(answer: httpx.Response) -> Any:
    assert answer.headers["content-type"] == "image/webp"
    return Image.open(io.BytesIO(answer.content))


def kept(house: House, person: Person) -> list[str]:
    directory: Path = house.app.services.library.avatars / str(person.id)
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


async def test_a_picture_from_its_upload_to_its_end(
    house: House, http: httpx.AsyncClient, picture: bytes
) -> None:
    ann, bob = await house.people(2)
    forms = [{"avatar": picture}, {"image": ("../../x.png", picture, "text/html")}, {"file": picture}]
    addresses = set()
    for form in forms:
        answer = await http.post(ME, files=form, headers=bearer(ann))  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        addresses.add(answer.json()["data"]["avatar"])
    addresses.add(await send(http, ann, picture))
    addresses.add(await send(http, ann, picture, "application/octet-stream"))
    (address,) = addresses  # the same picture has the same address
    shown = await http.get(f"/api/v1/users/{ann.id}", headers=bearer(bob))
    assert shown.json()["data"]["avatar"] == address

    answer = await http.get(address)  # as <img> does, without a token
    assert decoded(answer).size == (256, 256)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    small = await http.get(f"{address}&size=50")
    assert decoded(small).size == (64, 64)
    assert small.headers["etag"] != answer.headers["etag"]
    again = await http.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = await http.get(f"/api/v1/users/{ann.id}/avatar")
    assert plain.content == answer.content and plain.headers["cache-control"] == "public, no-cache"
    assert (await http.head(address)).headers["content-length"] == str(len(answer.content))

    other = await send(http, ann, saved(quarters(50, 50).rotate(90), "PNG"))
    assert other != address
    old = await http.get(address)  # another's page still has the old address
    assert old.headers["cache-control"] == "public, no-cache" and old.content != answer.content
    assert kept(house, ann) == [f"{size}-{other.rpartition('=')[2]}.webp" for size in (256, 64)]

    gone = await http.delete(ME, headers=bearer(ann))
    assert gone.json()["data"] == {"avatar": None}
    assert kept(house, ann) == []
    assert (await http.get(f"/api/v1/users/{ann.id}", headers=bearer(bob))).json()["data"]["avatar"] is None
    assert (await http.delete(ME, headers=bearer(ann))).status_code == 200


async def test_who_has_no_picture_is_shown_by_his_initials(house: House, http: httpx.AsyncClient) -> None:
    ann, odd = await house.people(2)
    at = f"/api/v1/users/{ann.id}/avatar"
    answer = await http.get(at)
    assert answer.headers["content-type"].startswith("image/svg+xml") and ">P</text>" in answer.text
    assert (await http.get(at, headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
    none = await http.get(f"{at}?fallback=none")
    assert (none.status_code, none.json()["code"]) == (404, "AVATAR_NOT_FOUND")
    await house.sql(
        "UPDATE users SET first_name = '<b>', last_name = ' Öz' WHERE id = $1 RETURNING 1", odd.id
    )
    assert ">&lt;Ö</text>" in (await http.get(f"/api/v1/users/{odd.id}/avatar")).text
    # Addresses in a profile that are not of ours lead nowhere from here.
    for avatar in (
        "https://elsewhere.example/x.png",
        f"/api/v1/users/{ann.id}/avatar?v={'0' * 20}",
        f"/api/v1/users/{odd.id}/avatar?v={'0' * 20}",
        f"/api/v1/users/{odd.id}/avatar?v=../../../../etc/passwd",
    ):
        await house.sql("UPDATE users SET avatar = $2 WHERE id = $1 RETURNING 1", odd.id, avatar)
        answer = await http.get(f"/api/v1/users/{odd.id}/avatar")
        assert answer.headers["content-type"].startswith("image/svg+xml"), avatar
    for path, status in (("?size=0", 400), ("?size=x", 400), ("?fallback=robot", 400)):
        assert (await http.get(at + path)).status_code == status
    assert (await http.get("/api/v1/users/987654321/avatar")).json()["code"] == "USER_NOT_FOUND"


async def test_what_is_refused_changes_nothing(house: House, http: httpx.AsyncClient, picture: bytes) -> None:
    ann = await house.person()
    address = await send(http, ann, picture)
    files = kept(house, ann)

    async def chunks(total: int) -> AsyncIterator[bytes]:
        for _ in range(total // 10_000):
            yield bytes(10_000)

    auth, png = bearer(ann), {"Content-Type": "image/png"}
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (415, "NOT_AN_IMAGE", {"content": b"<html>", "headers": {**auth, **png}}),
        (415, "NOT_AN_IMAGE", {"content": picture[:300], "headers": {**auth, **png}}),
        (415, "NOT_AN_IMAGE", {"content": b"", "headers": {**auth, **png}}),
        (415, "UNSUPPORTED_MEDIA_TYPE", {"json": {"avatar": "x"}, "headers": auth}),
        (415, "UNSUPPORTED_MEDIA_TYPE", {"content": picture, "headers": auth}),
        (413, "TOO_LARGE", {"content": bytes(LIMIT + 1), "headers": {**auth, **png}}),
        (413, "TOO_LARGE", {"content": chunks(2 * LIMIT), "headers": {**auth, **png}}),
        (413, "TOO_LARGE", {"files": {"avatar": bytes(LIMIT + 1)}, "headers": auth}),
        (400, "VALIDATION_ERROR", {"files": {"picture": picture}, "headers": auth}),
        (400, "INVALID_FORMAT", {"content": b"--b\r\nhello", "headers": {**auth, **form}}),
        (401, "AUTH_REQUIRED", {"content": picture, "headers": png}),
    ]
    for status, code, how in cases:
        answer = await http.post(ME, **how)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (answer.text, how["headers"])
    assert (await http.delete(ME)).status_code == 401
    assert (await http.get(address)).status_code == 200 and kept(house, ann) == files


async def test_two_pictures_at_once_and_a_full_disk(
    house: House, http: httpx.AsyncClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await house.person()
    others = [saved(quarters(40 + n, 40).rotate(90 * n), "PNG") for n in range(4)]
    async with trio.open_nursery() as nursery:
        for image in others:
            nursery.start_soon(send, http, ann, image)
    current = (await house.sql("SELECT avatar FROM users WHERE id = $1", ann.id))[0][0]
    assert kept(house, ann) == [f"{size}-{current.rpartition('=')[2]}.webp" for size in (256, 64)]
    assert decoded(await http.get(current)).size == (256, 256)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("veza.media.images.os.replace", full)
    answer = await http.post(ME, files={"avatar": picture}, headers=bearer(ann))
    assert (answer.status_code, answer.json()["code"]) == (507, "INSUFFICIENT_STORAGE")
    monkeypatch.undo()
    assert len(kept(house, ann)) == 2 and decoded(await http.get(current)).size == (256, 256)
