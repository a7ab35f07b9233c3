"""What programs do in the market, and how they hear of it: listings, offers, notifications, following, search."""

from __future__ import annotations

import io
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from PIL import Image

from tests.client.conftest import MakePerson
from veza.client import ApiError, AuthFailed, Listing, Notice, VezaClient


def picture(kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (400, 300), "#b3202c").save(out, kind)
    return out.getvalue()


async def a_guitar(client: VezaClient, **more: object) -> Listing:
    return await client.create_listing("Red guitar", "guitars", "good", price_cents=52_000, **more)  # type: ignore[arg-type]


async def test_listings_from_first_word_to_last(person: MakePerson, tmp_path: Path) -> None:
    ada, bob = await person("ada"), await person("bob")
    slugs = [category.slug for category in await bob.categories()]
    assert {"guitars", "synths", "other"} <= set(slugs)
    made = await a_guitar(ada, description="Plays itself.", location="Leeds", exchange_for="A drum")
    assert made.owner is not None
    assert (made.owner.username, made.status, made.currency, made.price_cents) == (
        "ada",
        "open",
        "EUR",
        52_000,
    )
    (tmp_path / "it.png").write_bytes(picture())
    image = await ada.add_image(made.id, tmp_path / "it.png")
    assert (image.n, image.width, image.height) == (1, 400, 300)
    await ada.add_image(made.id, picture("JPEG"))
    with pytest.raises(ApiError) as refused:
        await ada.add_image(made.id, b"no picture at all", "image/png")
    assert refused.value.code == "NOT_AN_IMAGE"
    await ada.remove_image(made.id, 1)
    assert [shown.n for shown in (await bob.listing(made.id)).images] == [2]

    await bob.mark(made.id)
    assert [found.id for found in (await bob.favorites()).items] == [made.id]
    assert (await bob.listing(made.id)).is_favorite
    await bob.unmark(made.id)
    assert not (await bob.favorites()).items

    changed = await ada.update_listing(made.id, price_cents=50_000, location=None)
    assert (changed.price_cents, changed.location, changed.exchange_for) == (50_000, None, "A drum")
    assert [found.id for found in (await bob.listings("guitar", category="guitars", max_price=50_000)).items]
    assert not (await bob.listings(min_price=50_001)).items
    with pytest.raises(ApiError) as refused:
        await bob.update_listing(made.id, title="Mine now")
    assert refused.value.status == 403
    await ada.delete_listing(made.id)
    with pytest.raises(ApiError) as refused:
        await bob.listing(made.id)
    assert refused.value.code == "LISTING_NOT_FOUND"


async def test_offers_and_what_both_sides_hear_of_them(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    guitar = await a_guitar(ada)
    drum = await bob.create_listing("Birch snare", "drums", "fair", price_cents=17_000)
    heard: list[Notice] = []
    async with trio.open_nursery() as nursery:
        enough = trio.Event()

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            async with aclosing(ada.listen_notifications()) as notices:
                task_status.started()
                async for notice in notices:
                    heard.append(notice)
                    if len(heard) == 2:
                        enough.set()

        await nursery.start(listen)
        offer = await bob.make_offer(guitar.id, 40_000, message="Today?")
        with pytest.raises(ApiError) as refused:
            await bob.make_offer(guitar.id, 45_000)
        assert refused.value.code == "OFFER_EXISTS"
        with pytest.raises(ApiError) as refused:
            await ada.make_offer(guitar.id, 1)
        assert refused.value.code == "OWN_LISTING"
        assert (offer.status, offer.amount_cents, offer.listing.title) == ("pending", 40_000, "Red guitar")
        assert (await ada.offer(offer.id)).viewed_at is not None
        countered = await ada.counter_offer(
            offer.id, 30_000, proposed_listing_id=drum.id, message="With the snare."
        )
        assert countered.counter is not None
        assert countered.counter.proposed_listing is not None
        assert countered.counter.proposed_listing.id == drum.id
        with pytest.raises(ApiError) as refused:
            await ada.accept_offer(offer.id)
        assert refused.value.status == 403
        done = await bob.accept_offer(offer.id)
        assert done.status == "accepted"
        await enough.wait()
        nursery.cancel_scope.cancel()
    assert [(notice.kind, notice.step, notice.offer_id) for notice in heard] == [
        ("offer", "received", offer.id),
        ("offer", "accepted", offer.id),
    ]
    assert heard[1].unread == 2
    assert {(await ada.listing(sold.id)).status for sold in (guitar, drum)} == {"sold"}
    assert [one.id for one in (await bob.offers("sent")).items] == [offer.id]
    assert [one.id for one in (await ada.listing_offers(guitar.id)).items] == [offer.id]
    with pytest.raises(ApiError) as refused:
        await bob.withdraw_offer(offer.id)
    assert refused.value.code == "OFFER_NOT_OPEN"
    stranger = await person("cleo")
    with pytest.raises(ApiError) as refused:
        await stranger.offer(offer.id)
    assert refused.value.code == "OFFER_NOT_FOUND"

    other = await a_guitar(ada)
    second = await bob.make_offer(other.id, 1_000, expires_in_hours=2)
    assert (await ada.reject_offer(second.id)).status == "rejected"
    third = await bob.make_offer(other.id, 2_000)
    assert (await bob.withdraw_offer(third.id)).status == "withdrawn"


async def test_notifications_are_read_and_counted(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    ada_id, bob_id = (await ada.me()).id, (await bob.me()).id
    await bob.follow(ada_id)
    await bob.follow(ada_id)
    assert [one.username for one in (await ada.followers(ada_id)).items] == ["bob"]
    assert [one.username for one in (await ada.following(bob_id)).items] == ["ada"]
    page = await ada.notifications()
    while not page.notifications:  # the courier is on its way
        page = await ada.notifications()
    (notice,) = page.notifications
    assert (notice.kind, notice.username, notice.user_id, page.unread) == ("follow", "bob", bob_id, 1)
    await ada.mark_notification_read(notice.id)
    assert (await ada.notifications(unread=True)).notifications == ()
    await bob.unfollow(ada_id)
    await ada.mark_notifications_read()
    assert (await ada.notifications()).unread == 0
    with pytest.raises(ApiError):
        await bob.mark_notification_read(notice.id)
    await ada.block(bob_id)
    with pytest.raises(ApiError) as refused:
        await bob.follow(ada_id)
    assert refused.value.code == "BLOCKED"
    await ada.unblock(bob_id)
    await bob.follow(ada_id)
    async with VezaClient(ada.url) as nobody:
        with pytest.raises(AuthFailed):
            await nobody.notifications()


async def test_pictures_of_oneself_and_playlists(person: MakePerson) -> None:
    ada = await person("ada")
    address = await ada.set_avatar(picture())
    assert address
    assert (await ada.profile()).avatar == address
    await ada.remove_avatar()
    assert (await ada.profile()).avatar is None
    made = await ada.create_playlist("Sunday", description="For coffee.")
    assert [one.title for one in (await ada.playlists()).items] == ["Sunday"]
    assert (await ada.playlist(made.id)).items == ()
    with pytest.raises(ApiError) as refused:
        await ada.add_to_playlist(made.id, 12345)
    assert refused.value.code == "TRACK_NOT_FOUND"
    await ada.delete_playlist(made.id)
    assert not (await ada.playlists()).items


async def test_everything_is_found_by_one_search(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob_the_drummer")
    snare = await ada.create_listing("Birch snare", "drums", "fair", price_cents=17_000)
    room = await ada.create_room("snare talk")
    await ada.post_message(room.id, "who wants a snare?")
    found = await ada.search("snare")
    assert [listing.id for listing in found.listings] == [snare.id]
    assert [one.name for one in found.rooms] == ["snare talk"]
    assert [message.content for message in found.messages] == ["who wants a snare?"]
    assert (found.people, found.tracks) == ((), ())
    assert not (await bob.search("snare")).messages, "he is no member"
    only = await ada.search("snare", types=["listings"])
    assert only.listings and not only.rooms
    assert [one.username for one in (await ada.search("bob_the_drummer")).people] == ["bob_the_drummer"]
    suggested = await ada.suggest("bir")
    assert [(one.type, one.id, one.text) for one in suggested] == [("listings", snare.id, "Birch snare")]
    assert await ada.tags() == await ada.trending_tags() == ()
    with pytest.raises(ApiError) as refused:
        await ada.search("snare", types=["nonsense"])
    assert refused.value.status == 400
    async with VezaClient(ada.url) as nobody:
        assert [listing.id for listing in (await nobody.search("snare")).listings] == [snare.id]
