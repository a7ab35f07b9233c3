"""Many images at once, and images that come in ways nobody sends them: what they may take of the server's memory and of
each other's time.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from tests.chat.client import eventually
from tests.chat.conftest import Build, House, build
from tests.chat.conftest import settings as settings
from tests.market.test_images import API, LIMIT, bearer, http, listing, patient
from veza.actors.registry import Identity
from veza.http.api.envelope import ApiError
from veza.http.api.images import decoded, received
from veza.media import image_child
from veza.media.images import LISTING, SECONDS, Busy, Pictures

__all__ = ["build", "http", "patient"]


@pytest.fixture
async def house(build: Build, patient: None) -> AsyncIterator[House]:
    async with build(listing_image_limit=LIMIT, rate_rest_burst=10_000, uploads_per_user=3) as house:
        yield house


class Sent:
    """A request's body, in the pieces in which it comes, by somebody who may send it before and after."""

    length = None

    def __init__(self, content_type: str, pieces: Any) -> None:
        self.services = SimpleNamespace(registry=self)
        self._content_type = content_type
        self._pieces = iter(pieces)

    def header(self, _: str) -> str:
        return self._content_type

    def user(self) -> Identity:
        return Identity(1, "ann", "user", "s", 0.0)

    async def confirm(self, identity: Identity) -> Identity:
        return identity

    async def read(self) -> bytes:
        return next(self._pieces, b"")


HEAD = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FORM = "multipart/form-data; boundary=x"


async def test_a_form_that_comes_byte_by_byte_takes_no_more_memory_than_its_image() -> None:
    size = 50_000
    pieces = (b"a" for _ in range(size))
    call: Any = Sent(FORM, (each for part in ((HEAD,), pieces, (b"\r\n--x--\r\n",)) for each in part))
    tracemalloc.start()
    try:
        assert await received(call, size, ("image",)) == b"a" * size
        assert tracemalloc.get_traced_memory()[1] < 50 * size  # a piece of its own for each byte takes 200
    finally:
        tracemalloc.stop()


async def test_a_form_that_never_ends_is_refused() -> None:
    def endless() -> Any:
        yield HEAD + b"a\r\n--x--\r\n"
        for _ in range(1000):
            yield b"\r\n" * 5000

    call: Any = Sent(FORM, endless())
    with pytest.raises(ApiError) as refused:
        await received(call, 1000, ("image",))
    assert refused.value.status == 413
    assert await call.read()  # it was not read to its end


async def test_whose_turn_does_not_come_is_not_told_that_it_is_no_image(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    decoders = trio.CapacityLimiter(1)
    pictures = Pictures(tmp_path, LISTING, decoders)
    decoders.acquire_on_behalf_of_nowait("somebody else")
    began = trio.current_time()
    with pytest.raises(Busy):
        await pictures.make(b"")
    with pytest.raises(ApiError) as refused:
        await decoded(pictures, b"")
    assert (refused.value.status, refused.value.code) == (503, "UNAVAILABLE")
    assert trio.current_time() - began == 2 * SECONDS


async def test_a_person_has_few_images_under_way(house: House, http: httpx.AsyncClient) -> None:
    ann, bob = await house.people(2)
    hers, his = await listing(http, ann), await listing(http, bob)
    arrived, go_on = trio.Semaphore(0), trio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"no"
        arrived.release()
        await go_on.wait()

    def post(person: Any, id: int, content: Any) -> Any:
        headers = {**bearer(person), "Content-Type": "image/png"}
        return http.post(f"{API}/listings/{id}/images", content=content, headers=headers)

    async def held() -> None:
        assert (await post(ann, hers, slow())).status_code == 415

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(held)
        with trio.fail_after(60):
            for _ in range(3):
                await arrived.acquire()
            await eventually(lambda: house.app.services.desk.open == 3)
        answer = await post(ann, hers, b"one more")
        assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_UPLOADS")
        headers = {**bearer(ann), "Content-Type": "image/png"}
        answer = await http.post(f"{API}/users/me/avatar", content=b"one more", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_UPLOADS")
        assert (await post(bob, his, b"his own")).status_code == 415
        go_on.set()
    assert (await post(ann, hers, b"again")).status_code == 415


_CONFINED = """
import resource, runpy, sys
runpy.run_path(sys.argv[1])["confine"]()
for at in range(100):
    try:
        held = [*locals().get("held", ()), open("/dev/null")]
    except OSError:
        print("descriptors", at < 64)
        break
held = []
try:
    with open(sys.argv[2], "w") as file:
        file.write("something")
except OSError:
    print("file refused")
try:
    bytearray(2 * 1024**3)
except MemoryError:
    print("memory refused")
print("processor", resource.getrlimit(resource.RLIMIT_CPU)[0])
"""


def test_whoever_decodes_writes_no_file_and_takes_little(tmp_path: Path) -> None:
    """What a decoder that a stranger's image took over could still do."""
    command = [sys.executable, "-I", "-c", _CONFINED, str(Path(image_child.__file__)), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = ["descriptors True", "file refused", "memory refused", f"processor {image_child.SECONDS}"]
    assert done.stdout.splitlines() == said
