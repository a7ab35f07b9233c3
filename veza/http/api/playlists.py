"""`/playlists`: tracks in an order somebody chose, public or for oneself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final, NoReturn

from msgspec import UNSET, Meta, Struct, UnsetType, structs
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import playlists as playlists_db
from veza.db import users
from veza.db.playlists import Item, Opened, Playlist, PlaylistChange, Refusal
from veza.http.api.access import perhaps_signed_in, signed_in
from veza.http.api.chat import BIGINT, Id, no_person
from veza.http.api.comments import no_track
from veza.http.api.envelope import conflict, created, invalid, not_found, ok
from veza.http.api.intake import takes, takes_query
from veza.http.api.models import plain
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import KeyPaging, key_meta, numbers
from veza.http.api.services import services

playlists = Blueprint("playlists", __name__, url_prefix="/playlists")

_TITLE_SAYS: Final = "Must be one line of 1 to 200 characters."
Title = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern="^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        extra={"says": _TITLE_SAYS, "trim": True},
    ),
]
Description = Annotated[
    str, Meta(max_length=1000, extra={"says": "Must have at most 1000 characters.", "trim": True})
]
Place = Annotated[
    int, Meta(ge=0, le=BIGINT, extra={"says": "Must be a place in the playlist, counted from 0."})
]


class PlaylistsQuery(KeyPaging, frozen=True, kw_only=True):
    """Without `user_id` one's own."""

    user_id: Id | None = None


class NewPlaylist(Struct, frozen=True):
    title: Title
    description: Description | None = None
    is_public: bool = True

    def check(self) -> Iterator[tuple[str, str]]:
        yield from plain("description", self.description)


class PlaylistForm(Struct, frozen=True):
    """What is left out stays; null takes the description away."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    is_public: bool | UnsetType = UNSET

    def check(self) -> Iterator[tuple[str, str]]:
        yield from plain("description", self.description)


class NewItem(Struct, frozen=True):
    """`position`: before what stands there now; without it, at the end."""

    track_id: Id
    position: Place | None = None


class Move(Struct, frozen=True):
    position: Place


class Arrangement(Struct, frozen=True):
    """The ids of all items that are shown, in the new order."""

    items: Annotated[list[Id], Meta(max_length=100_000, extra={"says": "Must be a list of the items' ids."})]


class Playlists(Struct, frozen=True):
    playlists: list[Playlist]


@playlists.get("")
@perhaps_signed_in
@takes_query(PlaylistsQuery)
@answers(Playlists, listing=True)
@fails(404)
async def list_playlists(identity: Identity | None, query: PlaylistsQuery) -> Response:
    """One's own playlists, or somebody's public ones, the newest first."""
    db = services().db
    reader = None if identity is None else identity.user_id
    owner = query.user_id if query.user_id is not None else reader
    if owner is None:
        raise invalid({"user_id": "Name a person, or log in to see your own."})
    if owner != reader and await db.read(users.profile, owner) is None:
        raise no_person()
    place = numbers(query, 1)
    page = await db.read(playlists_db.listed, owner, reader, None if place is None else place[0], query.limit)
    return ok(Playlists(page.playlists), meta=key_meta(query.limit, page.next))


@playlists.post("")
@signed_in
@takes(NewPlaylist)
@answers(Playlist, 201)
@fails(409)
async def create_playlist(identity: Identity, data: NewPlaylist) -> Response:
    """Begin a playlist."""
    s = services()
    most = s.settings.playlists_owned_max
    made = await s.db.write(
        playlists_db.create, identity.user_id, data.title, data.description or None, data.is_public, most
    )
    if made is None:
        raise conflict("TOO_MANY_PLAYLISTS", f"Nobody has more than {most} playlists; delete one first.")
    return created(made, location=f"/api/v1/playlists/{made.id}")


@playlists.get("/<id:playlist_id>")
@perhaps_signed_in
@answers(Opened)
@fails(404)
async def one_playlist(playlist_id: int, identity: Identity | None) -> Response:
    """A playlist with all its tracks in order; those one may not see are left out."""
    found = await services().db.read(
        playlists_db.opened, playlist_id, None if identity is None else identity.user_id
    )
    if found is None:
        _refuse("gone")
    return ok(found)


@playlists.put("/<id:playlist_id>")
@signed_in
@takes(PlaylistForm)
@answers(Playlist)
@fails(404)
async def change_playlist(playlist_id: int, identity: Identity, data: PlaylistForm) -> Response:
    """Change one's playlist."""
    given = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
    if "description" in given:
        given["description"] = given["description"] or None
    change = PlaylistChange(frozenset(given), **given)
    changed = await services().db.write(playlists_db.update, playlist_id, identity.user_id, change)
    if changed is None:
        _refuse("gone")
    return ok(changed)


@playlists.delete("/<id:playlist_id>")
@signed_in
@answers()
@fails(404)
async def delete_playlist(playlist_id: int, identity: Identity) -> Response:
    """Delete one's playlist; its tracks stay."""
    if not await services().db.write(playlists_db.remove, playlist_id, identity.user_id):
        _refuse("gone")
    return ok(message="The playlist is gone.")


@playlists.post("/<id:playlist_id>/items")
@signed_in
@takes(NewItem)
@answers(Item, 201)
@fails(404, 409)
async def add_item(playlist_id: int, identity: Identity, data: NewItem) -> Response:
    """Put a track into one's playlist."""
    s = services()
    added = await s.db.write(
        playlists_db.add,
        playlist_id,
        identity.user_id,
        data.track_id,
        data.position,
        s.settings.playlist_items_max,
    )
    if not isinstance(added, Item):
        _refuse(added)
    return created(added)


@playlists.put("/<id:playlist_id>/items")
@signed_in
@takes(Arrangement)
@answers(Opened)
@fails(404, 409)
async def arrange_items(playlist_id: int, identity: Identity, data: Arrangement) -> Response:
    """Give all items another order at once. 409 unless exactly those that are shown are named: then look again."""
    return await _after(playlists_db.arrange, playlist_id, identity, data.items)


@playlists.put("/<id:playlist_id>/items/<id:item_id>")
@signed_in
@takes(Move)
@answers(Opened)
@fails(404)
async def move_item(playlist_id: int, item_id: int, identity: Identity, data: Move) -> Response:
    """Put an item at another place; the others close ranks."""
    return await _after(playlists_db.move, playlist_id, identity, item_id, data.position)


@playlists.delete("/<id:playlist_id>/items/<id:item_id>")
@signed_in
@answers(Opened)
@fails(404)
async def take_item_out(playlist_id: int, item_id: int, identity: Identity) -> Response:
    """Take an item out; the others close ranks."""
    return await _after(playlists_db.take_out, playlist_id, identity, item_id)


async def _after(
    change: Callable[..., Awaitable[Refusal | None]], playlist_id: int, identity: Identity, *args: Any
) -> Response:
    """Make a change, and show the playlist as it is then."""
    s = services()
    refusal = await s.db.write(change, playlist_id, identity.user_id, *args)
    if refusal is not None:
        _refuse(refusal)
    found = await s.db.read(playlists_db.opened, playlist_id, identity.user_id)
    if found is None:
        _refuse("gone")
    return ok(found)


def _refuse(why: Refusal) -> NoReturn:
    match why:
        case "no item":
            raise not_found("This item", "ITEM_NOT_FOUND")
        case "no track":
            raise no_track()
        case "full":
            most = services().settings.playlist_items_max
            raise conflict("PLAYLIST_FULL", f"A playlist has at most {most} tracks.")
        case "beyond":
            raise invalid({"position": "Must be a place in the playlist, counted from 0."})
        case "differs":
            raise conflict("CONFLICT", "These are not exactly the items of the playlist; look again.")
    raise not_found("This playlist", "PLAYLIST_NOT_FOUND")
