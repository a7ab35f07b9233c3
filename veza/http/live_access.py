"""Who may listen to a stream, and who may broadcast on it; said in the door's words.

A private stream does not exist for who may not hear it. A stream's key opens it to broadcast, whatever name comes with
it; wrong ones are counted per address and stream.
"""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections import OrderedDict
from typing import Final

import msgspec

from veza.actors import errors
from veza.actors.errors import Refused as Denied
from veza.actors.registry import AuthFailed, Identity, Registry
from veza.actors.streams import Streams, refusals
from veza.db import streams as streams_db
from veza.db.errors import Unavailable
from veza.db.pool import Database
from veza.db.streams import Mount
from veza.http.head import Head
from veza.http.live_paths import Place
from veza.http.refusal import Refused
from veza.security import stream_keys
from veza.security.rates import Buckets, neighbourhood
from veza.security.signing import Expired, SignatureRefused, Signer

BELIEVED: Final = 10.0  # seconds, that somebody may listen
REMEMBERED: Final = 10_000
CHALLENGE: Final = (b"www-authenticate", b'Basic realm="live", charset="UTF-8"')
STATUS: Final = {
    refusals.NOT_FOUND: 404,
    refusals.OFFLINE: 404,
    refusals.ENDED: 404,
    refusals.BUSY: 409,
    refusals.FULL: 503,
    refusals.BARRED: 403,
    refusals.KEY_CHANGED: 403,
    refusals.TAKEN_OVER: 409,
    refusals.UNSUPPORTED: 415,
    errors.UNAVAILABLE: 503,
}


def refused(denied: Denied, *, source: bool = False) -> Refused:
    """An actor's no as the door says it. A source on a stream that has ended hears 403: asking again is no use."""
    status = STATUS.get(denied.code, 400)
    if source and denied.code == refusals.ENDED:
        status = 403
    headers = []
    if "retry_after" in denied.details:
        headers.append((b"retry-after", b"%d" % max(1, round(denied.details["retry_after"]))))
    return Refused(status, denied.code, denied.message, headers)


class Ear(msgspec.Struct, frozen=True):
    """Who listens to what, as far as it is known: who shows a token, or an address that was signed in his name."""

    mount: Mount
    identity: Identity | None = None
    signed_for: int | None = None

    @property
    def user_id(self) -> int | None:
        return self.signed_for if self.identity is None else self.identity.user_id


class LiveAccess:
    """The judge."""

    def __init__(
        self, streams: Streams, *, db: Database, registry: Registry, signer: Signer, keys_per_minute: int
    ) -> None:
        self._streams = streams
        self._db = db
        self._registry = registry
        self._signer = signer
        self._wrong = Buckets(keys_per_minute / 60, keys_per_minute)
        self._hearing: OrderedDict[tuple[int, int], float] = (
            OrderedDict()
        )  # stream, person: until when it is so

    async def listener(self, head: Head, place: Place) -> Ear:
        """The stream, if who asks may listen to it.

        Raises:
            Refused: 401, 403 for what was shown and opens nothing; 404; 503.
        """
        if place.sig is not None:
            self._signed(place)
            ear = Ear(await self._mount(place.slug), signed_for=place.user)
            await self._still(ear)
            return ear
        return await self.hears(place.slug, bearer(head))

    async def hears(self, slug: str, token: str | None) -> Ear:
        """As `listener`, for WebSockets."""
        mount = await self._mount(slug)
        if mount.visibility == "private":
            return Ear(mount, await self._private(mount, token))
        try:
            return Ear(mount, await self._registry.authenticate(token) if token else None)
        except (AuthFailed, Unavailable):
            return Ear(mount)  # anybody may

    async def confirm(self, ear: Ear) -> None:
        """The same once more, now that whoever turns people out would find him. Raises Refused."""
        if ear.identity is not None:
            try:
                await self._registry.confirm(msgspec.structs.replace(ear.identity, expires_at=math.inf))
            except AuthFailed as error:
                raise Refused(401, error.code, error.message) from None
            except Unavailable:
                raise _away() from None
        elif ear.signed_for is not None:
            self._hearing.pop((ear.mount.id, ear.signed_for), None)
            await self._still(ear)

    def forget(self, user_id: int) -> None:
        """Somebody may less than before, perhaps: ask anew."""
        for known in [known for known in self._hearing if known[1] == user_id]:
            del self._hearing[known]

    async def _still(self, ear: Ear) -> None:
        """May he listen still, for whom the address was signed? What the database said is believed for a while."""
        mount, user_id = ear.mount, ear.signed_for
        if user_id is None or mount.visibility != "private":
            return
        if self._hearing.get((mount.id, user_id), 0.0) > time.monotonic():
            return
        try:
            hears = await self._db.read(streams_db.still_hears, mount.id, user_id)
        except Unavailable:
            return  # the signature is good
        if not hears:
            raise refused(refusals.not_found())
        self._hearing[mount.id, user_id] = time.monotonic() + BELIEVED
        self._hearing.move_to_end((mount.id, user_id))
        if len(self._hearing) > REMEMBERED:
            self._hearing.popitem(last=False)

    async def source(self, head: Head, slug: str, client: str) -> Mount:
        """The stream, if its key came along.

        Raises:
            Refused: 401 with the challenge, the same whether the stream exists or not; 403 for who is muted and would
                begin; 429 after too many wrong ones.
        """
        key = basic_password(head)
        if key is None:
            raise Refused(401, sentence="Broadcasting needs the stream's key.", headers=[CHALLENGE])
        return await self.keyed(slug, key, client)

    async def keyed(self, slug: str, key: str, client: str) -> Mount:
        """As `source`, with the key in hand."""
        counted = (neighbourhood(client), slug)
        wait = self._wrong.take(counted)
        if wait:
            raise Refused(
                429,
                "RATE_LIMITED",
                "Too many wrong stream keys; wait a little.",
                [(b"retry-after", b"%d" % max(1, round(wait)))],
            )
        try:
            mount: Mount | None = await self._streams.mount(slug, fresh=True)
        except Denied as denied:
            if denied.code != refusals.NOT_FOUND:
                self._wrong.give_back(counted)
                raise refused(denied) from None
            mount = None
        if not stream_keys.fits(key, mount.key_hash if mount is not None else bytes(32)) or mount is None:
            raise Refused(401, "STREAM_KEY_WRONG", "That is not this stream's key.", [CHALLENGE])
        self._wrong.give_back(counted)
        self._may_begin(mount)
        return mount

    async def owner(self, slug: str, token: str, client: str) -> Mount:
        """The stream, for a page of its owner's: by his access token, or by the key itself.

        Raises:
            Refused: 401, 403, 429, 503.
        """
        try:
            identity = await self._registry.authenticate(token)
        except AuthFailed:
            return await self.keyed(slug, token, client)
        except Unavailable:
            raise _away() from None
        try:
            mount = await self._streams.mount(slug, fresh=True)
        except Denied as denied:
            raise refused(denied) from None
        if mount.owner_id != identity.user_id:
            if mount.visibility == "private":
                raise refused(refusals.not_found())
            raise Refused(403, sentence="Only its owner broadcasts on a stream.")
        self._may_begin(mount)
        return mount

    def _may_begin(self, mount: Mount) -> None:
        """Raises Refused: its owner is muted, and nothing of his is on air that could go on."""
        running = self._streams.glance(mount.id)
        state = mount.state if running is None else running.state
        if mount.muted and state not in ("live", "interrupted"):
            raise silenced()

    async def _mount(self, slug: str) -> Mount:
        try:
            return await self._streams.mount(slug)
        except Denied as denied:
            raise refused(denied) from None

    def _signed(self, place: Place) -> None:
        try:
            message = f"live/{place.slug}" if place.user is None else f"live/{place.slug}/{place.user}"
            self._signer.verify(message, place.expires or "", place.sig or "", time.time())
        except Expired:
            raise Refused(403, "SIGNATURE_EXPIRED", "This address has expired; ask for a new one.") from None
        except SignatureRefused:
            raise Refused(403, "SIGNATURE_INVALID", "This address is not signed by us.") from None

    async def _private(self, mount: Mount, token: str | None) -> Identity:
        if not token:
            raise refused(refusals.not_found())
        try:
            identity = await self._registry.authenticate(token)
            if identity.user_id != mount.owner_id and not await self._db.read(
                streams_db.may_hear, mount.id, identity.user_id
            ):
                raise refused(refusals.not_found())
            return identity
        except AuthFailed as error:
            challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
            raise Refused(401, error.code, error.message, [challenge]) from None
        except Unavailable:
            raise _away() from None


def silenced() -> Refused:
    return Refused(403, errors.MUTED, "You are muted.")


def _away() -> Refused:
    return Refused(503, headers=[(b"retry-after", b"2")])


def bearer(head: Head) -> str | None:
    """The access token of a request, in its header or its query."""
    scheme, _, token = (head.get(b"authorization") or b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return head.argument("token")


def basic_password(head: Head) -> str | None:
    """The password of Basic credentials; None where there are none that can be read. The name does not matter."""
    scheme, _, given = (head.get(b"authorization") or b"").decode("latin-1").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    _, colon, password = decoded.partition(b":")
    return password.decode("utf-8", "replace") if colon else None
