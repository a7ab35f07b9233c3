"""Fills a fresh server: through the same interfaces as everybody, so that it is a check of them as well.

People first; then rooms, the market and tracks side by side. What past days need besides is collected in `Filled`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from veza.client import ChatSocket, Listing, Offer, Room, Track
from veza.commands.demo import talk, trade
from veza.commands.demo.faces import face
from veza.commands.demo.people import PEOPLE, Musician
from veza.commands.demo.pieces import PIECES
from veza.commands.demo.talk import Letters, Line, Talk
from veza.commands.demo.things import LISTED
from veza.commands.demo.town import Town, each, patiently
from veza.commands.demo.trade import Bid, Ware

PICTURES_AT_ONCE: Final = 2  # drawn and sent: a server gives each a few seconds, its turn included


class Played(msgspec.Struct, frozen=True):
    """A piece that has been played into a file."""

    name: str
    file: Path


class Filled:
    """What has been made, by the names it has here; and when it is said to have been."""

    def __init__(self) -> None:
        self.messages: dict[int, datetime] = {}
        self.tracks: dict[str, Track] = {}
        self.listings: dict[str, Listing] = {}
        self.offers: list[tuple[Bid, Offer]] = []


class Filling:
    """One filling of one server.

    Args:
        played: the pieces as they are ready; those that never come are left out, with all that is about them.
        wares: how many are put up for sale.
        faces: how many people have a picture of themselves.
    """

    def __init__(self, town: Town, played: AsyncIterable[Played], wares: int, faces: int) -> None:
        self.filled = Filled()
        self.people_ready = trio.Event()
        self._town = town
        self._played = played
        self._wares = trade.WARES[:wares]
        self._seen = PEOPLE[:faces]
        self._now = datetime.now(UTC)
        self._pictures = trio.CapacityLimiter(PICTURES_AT_ONCE)

    async def run(self) -> Filled:
        """Make everything. Raises ClientError where the server does not do what it should."""
        await each([partial(self._introduce, person) for person in PEOPLE])
        self.people_ready.set()
        await each([self._rooms, self._market, self._tracks])
        return self.filled

    # People --------------------------------------------------------------------------------------------

    async def _introduce(self, person: Musician) -> None:
        client = self._town[person.username]
        await client.update_profile(bio=person.bio)
        if person in self._seen:
            async with self._pictures:
                picture = await trio.to_thread.run_sync(face, person.looks)
                await client.set_avatar(picture, "image/png")
        for name in person.follows:
            await client.follow(self._town.ids[name])

    # Rooms and letters ---------------------------------------------------------------------------------

    async def _rooms(self) -> None:
        for written in talk.TALK:  # one after the other: that is the order in which they are listed
            if written.room != "general":
                await self._town[written.lines[0][1]].create_room(written.room, description=written.about)
        await each(
            [partial(self._room, written) for written in talk.TALK]
            + [partial(self._letters, letters) for letters in talk.LETTERS]
        )

    async def _room(self, written: Talk) -> None:
        room = await self._members(written)
        last: int | None = None
        ids = []
        for number, (at, who, what) in enumerate(self._times(written.lines, written.ago)):
            text, _, emojis = what.partition(" | ")
            post = partial(
                self._town[who].post_message,
                room.id,
                text.removeprefix("^"),
                nonce=f"demo-{written.room}-{number}",
                reply_to=last if text.startswith("^") else None,
            )
            message = await patiently(post)
            last = message.id
            ids.append(last)
            self.filled.messages[last] = at
            fans = [name for name in _speakers(written) if name != who]
            for turn, emoji in enumerate(_emojis(emojis)):
                await patiently(partial(self._town[fans[(number + turn) % len(fans)]].react, last, emoji))
        if written.pinned is not None and written.room != "general":
            await self._town[written.lines[0][1]].request("PUT", f"chat/messages/{ids[written.pinned]}/pin")

    async def _members(self, written: Talk) -> Room:
        await each([partial(self._town[name].join_room, written.room) for name in _speakers(written)])
        return await self._town[written.lines[0][1]].room(written.room)

    async def _letters(self, letters: Letters) -> None:
        one, other = letters.between
        async with (
            ChatSocket(self._town[one], listen=False) as first,
            ChatSocket(self._town[other], listen=False) as second,
        ):
            sockets = {one: (first, self._town.ids[other]), other: (second, self._town.ids[one])}
            for number, (at, who, text) in enumerate(self._times(letters.lines, letters.ago)):
                socket, to = sockets[who]
                ack = await socket.send_direct(to, text, nonce=f"demo-{one}-{other}-{number}", patient=True)
                self.filled.messages[ack.id] = at

    def _times(self, lines: tuple[Line, ...], ago: int) -> list[tuple[datetime, str, str]]:
        """When each line was said, so that the last is as old as asked for."""
        total = sum(pause for pause, _, _ in lines)
        timed, passed = [], 0
        for pause, who, text in lines:
            passed += pause
            timed.append((self._now - timedelta(minutes=ago + total - passed), who, text))
        return timed

    # The market ----------------------------------------------------------------------------------------

    async def _market(self) -> None:
        for ware in sorted(
            self._wares, key=lambda ware: -ware.hours_ago
        ):  # the newest comes last, as it should
            made = await self._town[ware.owner].create_listing(
                ware.title,
                ware.category,
                ware.state,
                description=ware.description,
                price_cents=ware.price,
                currency=ware.currency,
                exchange_for=ware.exchange,
                location=ware.location,
            )
            self.filled.listings[ware.key] = made
        await each([partial(self._show, ware) for ware in self._wares])
        for bid in sorted(trade.BIDS, key=lambda bid: -bid.hours_ago):
            if bid.ware in self.filled.listings and (bid.swap is None or bid.swap in self.filled.listings):
                self.filled.offers.append((bid, await self._bid(bid)))

    async def _show(self, ware: Ware) -> None:
        listing = self.filled.listings[ware.key]
        async with self._pictures:
            picture = await trio.to_thread.run_sync(LISTED[ware.drawing])
            await self._town[ware.owner].add_image(listing.id, picture, "image/jpeg")
        for name in ware.loved_by:
            await self._town[name].mark(listing.id)

    async def _bid(self, bid: Bid) -> Offer:
        listing = self.filled.listings[bid.ware]
        seller = self._town[next(ware.owner for ware in self._wares if ware.key == bid.ware)]
        buyer = self._town[bid.buyer]
        swap = None if bid.swap is None else self.filled.listings[bid.swap].id
        offer = await buyer.make_offer(listing.id, bid.amount, proposed_listing_id=swap, message=bid.message)
        match bid.becomes:
            case "pending":
                return offer
            case "countered":
                return await seller.counter_offer(offer.id, bid.counter, message=bid.answer)
            case "accepted":
                return await seller.accept_offer(offer.id)
            case "rejected":
                return await seller.reject_offer(offer.id)
            case "withdrawn":
                return await buyer.withdraw_offer(offer.id)

    # Tracks --------------------------------------------------------------------------------------------

    async def _tracks(self) -> None:
        async with trio.open_nursery() as nursery:
            async for played in self._played:
                nursery.start_soon(self._track, played)
        for owner, title, about, names in trade.PLAYLISTS:
            client = self._town[owner]
            playlist = await client.create_playlist(title, description=about)
            for name in names:
                if name in self.filled.tracks:
                    await client.add_to_playlist(playlist.id, self.filled.tracks[name].id)

    async def _track(self, played: Played) -> None:
        piece = next(piece for piece in PIECES if piece.name == played.name)
        owner = self._town[piece.by]
        track = await owner.upload(
            played.file,
            title=piece.title,
            artist=piece.artist,
            genre=piece.genre,
            tags=piece.tags,
            description=piece.description,
        )
        track = await owner.wait_ready(track.id)
        self.filled.tracks[piece.name] = track
        seconds = (track.duration_ms or 0) / 1000
        for name in trade.LIKES[piece.name]:
            await self._town[name].report_play(track.id, seconds, completed=True)
            await self._town[name].like(track.id)
        for name, liked in trade.REPOSTS:
            if liked == piece.name:
                await self._town[name].repost(track.id)
        for liked, name, at_ms, text in trade.COMMENTS:
            if liked == piece.name and at_ms < (track.duration_ms or 0):
                await self._town[name].comment(track.id, text, at_ms)


def _speakers(written: Talk) -> list[str]:
    """Who has something to say in a room, and sees what the others say."""
    return list(dict.fromkeys(name for _, name, _ in written.lines))


def _emojis(text: str) -> list[str]:
    """A row of emojis, one by one; each is one code point, perhaps with a variation selector."""
    found: list[str] = []
    for letter in text:
        if letter == "\ufe0f" and found:
            found[-1] += letter
        elif not letter.isspace():
            found.append(letter)
    return found
