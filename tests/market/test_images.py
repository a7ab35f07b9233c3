"""Images of listings through the door: only pixels are kept, in two sizes, at most eight, and never without a row."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from PIL import Image

from tests.chat.conftest import Build, House, Person, build
from tests.chat.conftest import settings as settings
from tests.social.test_avatar_images import corners, png_of, quarters, saved
from veza.actors import listing_images
from veza.media import image_child
from veza.media.images import LISTING

__all__ = ["build"]

LIMIT = 300_000
API = "/api/v1"


@pytest.fixture(scope="session")
def picture() -> bytes:
    return saved(quarters(), "PNG")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes is nice to everybody else, and on a busy machine that takes longer than one may wait for it."""
    monkeypatch.setattr("veza.media.images.SECONDS", 120.0)


@pytest.fixture
async def house(build: Build, patient: None) -> AsyncIterator[House]:
    async with build(listing_image_limit=LIMIT, rate_rest_burst=10_000) as house:
        yield house


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}", timeout=300) as client:
        yield client


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


async def listing(http: httpx.AsyncClient, owner: Person) -> int:
    body = {"title": "Bass", "category": "basses", "state": "good", "price_cents": 5}
    answer = await http.post(f"{API}/listings", json=body, headers=bearer(owner))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["data"]["id"])


async def send(http: httpx.AsyncClient, owner: Person, id: int, image: bytes) -> Any:
    headers = {**bearer(owner), "Content-Type": "image/png"}
    answer = await http.post(f"{API}/listings/{id}/images", content=image, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def opened(answer: httpx.Response) -> Any:
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    return Image.open(io.BytesIO(answer.content))


def kept(house: House, id: int) -> list[str]:
    directory = house.app.services.library.listings / str(id)
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


async def test_images_from_their_upload_to_their_end(house: House, http: httpx.AsyncClient) -> None:
    ann, bob = await house.people(2)
    id = await listing(http, ann)
    at = f"{API}/listings/{id}"
    large = await send(http, ann, id, saved(quarters(2000, 1000), "JPEG"))
    assert (large["n"], large["width"], large["height"]) == (1, 1280, 640)
    small = await http.post(
        f"{at}/images", files={"image": saved(quarters(200, 300), "PNG")}, headers=bearer(ann)
    )
    assert small.status_code == 201
    assert {k: small.json()["data"][k] for k in ("n", "width", "height")} == {
        "n": 2,
        "width": 200,
        "height": 300,
    }
    images = (await http.get(at)).json()["data"]["images"]
    assert images == [large, small.json()["data"]]

    whole = await http.get(large["url"])  # as <img> does, without a token
    assert opened(whole).size == (1280, 640)
    assert corners(opened(whole).resize((640, 640))) == ["red", "green", "blue", "white"]
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    thumb = await http.get(large["thumb_url"])
    assert opened(thumb).size == (320, 160) and thumb.headers["etag"] != whole.headers["etag"]
    again = await http.get(large["url"], headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = await http.get(f"{at}/images/1")
    assert plain.content == whole.content and plain.headers["cache-control"] == "public, no-cache"
    assert opened(await http.get(images[1]["thumb_url"])).size == (200, 300)
    for path, status in (
        ("1?size=0", 400),
        ("1?size=x", 400),
        ("3", 404),
        ("0", 404),
        (f"{2**70}", 404),
        ("x", 404),
    ):
        assert (await http.get(f"{at}/images/{path}")).status_code == status, path

    for order, status in (
        ([2, 1], 200),
        ([2], 409),
        ([1, 1], 409),
        ([1, 2, 3], 409),
        (["x"], 400),
        ([2**70, 1], 409),
    ):
        answer = await http.put(f"{at}/images/order", json={"order": order}, headers=bearer(ann))
        assert answer.status_code == status, (order, answer.text)
    mine = await http.get(f"{API}/listings?user_id={ann.id}")
    assert [i["n"] for i in mine.json()["data"]["listings"][0]["images"]] == [2, 1]
    body = {"amount_cents": 5}
    offer = (await http.post(f"{at}/offers", json=body, headers=bearer(bob))).json()["data"]
    assert offer["listing"]["thumb_url"] == images[1]["thumb_url"]

    answer = await http.delete(f"{at}/images/2", headers=bearer(ann))
    assert answer.status_code == 200 and len(kept(house, id)) == 2
    assert (await http.get(images[1]["url"])).json()["code"] == "IMAGE_NOT_FOUND"
    assert (await http.delete(f"{at}/images/2", headers=bearer(ann))).json()["code"] == "IMAGE_NOT_FOUND"
    assert (await send(http, ann, id, saved(quarters(9, 9), "PNG")))[
        "n"
    ] == 3  # a number is never given twice
    twice = [await send(http, ann, id, saved(quarters(9, 9), "PNG")) for _ in range(2)]
    assert await http.delete(f"{at}/images/{twice[0]['n']}", headers=bearer(ann))
    assert opened(await http.get(twice[1]["url"])).size == (9, 9)  # the same picture, by another name
    assert (await http.delete(at, headers=bearer(ann))).status_code == 200
    assert kept(house, id) == [] and (await http.get(large["url"])).status_code == 404
    told_of = (await http.get(f"{API}/offers/{offer['id']}", headers=bearer(bob))).json()["data"]
    assert told_of["listing"]["thumb_url"] is None


async def test_what_is_refused_changes_nothing(house: House, http: httpx.AsyncClient, picture: bytes) -> None:
    ann, bob = await house.people(2)
    id = await listing(http, ann)
    at = f"{API}/listings/{id}/images"
    first = await send(http, ann, id, picture)
    files = kept(house, id)

    async def chunks(total: int) -> AsyncIterator[bytes]:
        for _ in range(total // 10_000):
            yield bytes(10_000)

    png = {**bearer(ann), "Content-Type": "image/png"}
    auth = bearer(ann)
    cases: list[tuple[int, str, str, dict[str, Any]]] = [
        (415, "NOT_AN_IMAGE", at, {"content": b"<html>", "headers": png}),
        (415, "NOT_AN_IMAGE", at, {"content": picture[:300], "headers": png}),
        (
            415,
            "NOT_AN_IMAGE",
            at,
            {"files": {"image": ("x.png", b"PK\x03\x04", "image/png")}, "headers": auth},
        ),
        (415, "UNSUPPORTED_MEDIA_TYPE", at, {"json": {"image": "x"}, "headers": auth}),
        (413, "TOO_LARGE", at, {"content": bytes(LIMIT + 1), "headers": png}),
        (413, "TOO_LARGE", at, {"content": chunks(2 * LIMIT), "headers": png}),
        (413, "TOO_LARGE", at, {"files": {"image": bytes(LIMIT + 1)}, "headers": auth}),
        (400, "VALIDATION_ERROR", at, {"files": {"picture": picture}, "headers": auth}),
        (401, "AUTH_REQUIRED", at, {"content": picture, "headers": {"Content-Type": "image/png"}}),
        (403, "FORBIDDEN", at, {"content": picture, "headers": {**png, **bearer(bob)}}),
        (404, "LISTING_NOT_FOUND", f"{API}/listings/0/images", {"content": picture, "headers": png}),
        (404, "LISTING_NOT_FOUND", f"{API}/listings/{'9' * 30}/images", {"content": picture, "headers": png}),
        (404, "LISTING_NOT_FOUND", f"{API}/listings/abc/images", {"content": picture, "headers": png}),
    ]
    for status, code, path, how in cases:
        answer = await http.post(path, **how)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (answer.text, path)
    for method, path, body in (("DELETE", f"{at}/1", None), ("PUT", f"{at}/order", {"order": [1]})):
        answer = await http.request(method, path, json=body, headers=bearer(bob))
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
        assert (await http.request(method, path, json=body)).status_code == 401
    assert kept(house, id) == files
    assert (await http.get(f"{API}/listings/{id}")).json()["data"]["images"] == [first]


async def test_eight_are_enough_also_when_they_come_at_once(house: House, http: httpx.AsyncClient) -> None:
    (ann,) = await house.people(1)
    id = await listing(http, ann)
    await house.sql(
        """INSERT INTO listing_images (listing_id, n, position, hash, width, height)
           SELECT $1, n, n, md5(n::text)::char(20), 1, 1 FROM generate_series(1, 6) n RETURNING 1""",
        id,
    )
    await house.sql("UPDATE listings SET images_made = 6 WHERE id = $1 RETURNING 1", id)
    codes: list[int] = []

    async def one(number: int) -> None:
        image = saved(quarters(20 + number, 20), "PNG")
        headers = {**bearer(ann), "Content-Type": "image/png"}
        answer = await http.post(f"{API}/listings/{id}/images", content=image, headers=headers)
        codes.append(answer.status_code)
        assert answer.status_code == 201 or answer.json()["code"] == "TOO_MANY_IMAGES"

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
    assert sorted(codes) == [201, 201, 409, 409]
    images = (await http.get(f"{API}/listings/{id}")).json()["data"]["images"]
    assert len(images) == 8 and len({image["n"] for image in images}) == 8
    assert len(kept(house, id)) == 4  # two sizes of the two that stayed
    await one(9)  # refused before it is read
    assert codes[-1] == 409


async def test_a_full_disk_and_files_that_nobody_names(
    house: House, http: httpx.AsyncClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ann,) = await house.people(1)
    id = await listing(http, ann)
    headers = {**bearer(ann), "Content-Type": "image/png"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("veza.media.images.os.replace", full)
        answer = await http.post(f"{API}/listings/{id}/images", content=picture, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (507, "INSUFFICIENT_STORAGE")
    assert (await http.get(f"{API}/listings/{id}")).json()["data"]["images"] == []

    s = house.app.services
    image = await send(http, ann, id, picture)
    gone = await listing(http, ann)
    made = await s.listing_images.make(saved(quarters(30, 30), "PNG"))
    for each in (id, gone):  # files whose rows were never stored
        s.listing_images.store(each, made)
    assert len(kept(house, id)) == 4 and len(kept(house, gone)) == 2
    assert await listing_images.sweep(s.db, s.listing_images) == 0  # they may be about to get them
    for each in (id, gone):
        os.utime(s.library.listings / str(each), (1, 1))
    assert await listing_images.sweep(s.db, s.listing_images) == 2
    assert len(kept(house, id)) == 2 and kept(house, gone) == []
    assert opened(await http.get(image["url"])).size == (640, 480)
    assert await listing_images.sweep(s.db, s.listing_images, older_than=0) == 0


SECRET = b"alert(document.cookie)"


def made(data: bytes) -> list[tuple[int, tuple[int, int], bytes]] | str:
    """What the child makes of it; the code is the same, without starting Python for each."""
    try:
        return image_child.renditions(data, list(LISTING.sizes), LISTING.how)
    except image_child.Unusable as unusable:
        return str(unusable)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("evil.js", SECRET)
    return file.getvalue()


async def test_only_pixels_are_kept(house: House, http: httpx.AsyncClient) -> None:
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x0112] = 6  # lies on its side
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPS
    jpeg = saved(quarters(800, 600), "JPEG", exif=exif, comment=SECRET)
    gif = bytearray(saved(quarters(300, 200).quantize(8), "GIF"))
    script = b"GIF89a/*" + bytes(gif[8:]) + b"*/=1;" + SECRET
    inputs = {
        "JPEG with a place": jpeg,
        "JPEG and ZIP": jpeg + archive(),
        "GIF and script": bytes(gif) + b"*/=1;" + SECRET,
        "PNG and HTML": saved(quarters(), "PNG") + b"<script>" + SECRET + b"</script>",
        "PNG with a profile": saved(quarters().quantize(8), "PNG", icc_profile=SECRET),
        "WebP with XMP": saved(quarters(), "WEBP", xmp=SECRET, exif=exif),
    }
    assert zipfile.ZipFile(io.BytesIO(inputs["JPEG and ZIP"])).read("evil.js") == SECRET  # it is both
    for name, data in inputs.items():
        images = made(data)
        assert not isinstance(images, str), (name, images)
        assert [size for size, _, _ in images] == [1280, 320]
        for size, pixels, image in images:
            assert SECRET not in image and b"PK\x03\x04" not in image and b"Exif" not in image, name
            shown = Image.open(io.BytesIO(image))
            assert (shown.format, shown.size) == ("WEBP", pixels) and max(pixels) <= size
            assert not {"exif", "icc_profile", "xmp", "comment"} & set(shown.info)
            assert not shown.getexif()
    large = made(inputs["JPEG with a place"])
    assert not isinstance(large, str) and large[0][1] == (600, 800)  # upright
    assert isinstance(made(script), (str, list))  # whatever it is, it is no crash

    # Through the door and the child once more, as they are.
    (ann,) = await house.people(1)
    id = await listing(http, ann)
    image = await send(http, ann, id, inputs["JPEG and ZIP"])
    answer = await http.get(image["url"])
    assert SECRET not in answer.content and opened(answer).size == (600, 800)


async def test_bombs_and_what_is_no_image(house: House, http: httpx.AsyncClient) -> None:
    good = saved(quarters(), "PNG")
    bomb = zlib.compress(bytes(3 * 1000 * 1000), 9)
    deep = io.BytesIO()
    Image.new("1", (6000, 5000)).save(deep, "PNG")  # 30 million pixels in a few kilobytes
    inputs = {
        "nothing": b"",
        "text": b"hello " * 100,
        "a zip": archive(),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "a TIFF": saved(quarters(), "TIFF"),
        "cut off": good[: len(good) // 2],
        "a liar": png_of(3000, 3000, zlib.compress(b"short")),
        "a bomb": png_of(60_000, 60_000, bomb),
        "wide": png_of(2**31 - 1, 1, bomb),
    }
    for name, data in inputs.items():
        assert isinstance(made(data), str), name
    assert len(deep.getvalue()) < LIMIT
    (ann,) = await house.people(1)
    id = await listing(http, ann)
    for name in ("a bomb", "cut off"):
        headers = {**bearer(ann), "Content-Type": "image/png"}
        answer = await http.post(f"{API}/listings/{id}/images", content=inputs[name], headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "NOT_AN_IMAGE"), name
    # One that is large, and no bomb, is decoded in the memory the child has.
    image = await send(http, ann, id, deep.getvalue())
    assert (image["width"], image["height"]) == (1280, 1067)
