"""People to each other: following, blocking, pictures of oneself, playlists."""

from datetime import datetime
from os import PathLike

from veza.client.frames import Frame
from veza.client.market import image_content
from veza.client.media import Person, Track
from veza.client.models import Page, User
from veza.client.transport import Transport, read_one


class Playlist(Frame, frozen=True, kw_only=True):
    """Tracks in an order somebody chose; `item_count` counts also those one may not see."""

    id: int
    title: str
    description: str | None = None
    is_public: bool = True
    item_count: int = 0
    owner: Person | None = None
    created_at: datetime | None = None


class PlaylistItem(Frame, frozen=True, kw_only=True):
    """A track's place in a playlist; `position` counts from 0."""

    id: int
    position: int = 0
    track: Track | None = None


class OpenedPlaylist(Playlist, frozen=True, kw_only=True):
    """A playlist with what is in it."""

    items: tuple[PlaylistItem, ...] = ()


class _Avatar(Frame, frozen=True):
    avatar: str | None = None


class People(Transport):
    """What `VezaClient` offers of people and their playlists."""

    async def follow(self, user_id: int) -> None:
        await self.request("PUT", f"users/{user_id}/follow")

    async def unfollow(self, user_id: int) -> None:
        await self.request("DELETE", f"users/{user_id}/follow")

    async def followers(self, user_id: int, *, limit: int = 20, cursor: str | None = None) -> Page[User]:
        return await self._page(
            f"users/{user_id}/followers", "users", User, {"limit": limit, "cursor": cursor}
        )

    async def following(self, user_id: int, *, limit: int = 20, cursor: str | None = None) -> Page[User]:
        return await self._page(
            f"users/{user_id}/following", "users", User, {"limit": limit, "cursor": cursor}
        )

    async def block(self, user_id: int) -> None:
        """Neither follows the other from now on, and no letter passes between the two."""
        await self.request("PUT", f"users/{user_id}/block")

    async def unblock(self, user_id: int) -> None:
        await self.request("DELETE", f"users/{user_id}/block")

    async def set_avatar(self, image: bytes | str | PathLike[str], kind: str | None = None) -> str | None:
        """Give oneself a picture, of its bytes or a file; returns its address, relative to the server's.

        Raises:
            OSError: the file cannot be read.
            ApiError: 413 when it is too large, 415 `NOT_AN_IMAGE`.
        """
        content = await image_content(image, kind)
        return read_one(await self.request("POST", "users/me/avatar", content=content), "", _Avatar).avatar

    async def remove_avatar(self) -> None:
        await self.request("DELETE", "users/me/avatar")

    # Playlists -----------------------------------------------------------------------------------------

    async def playlists(
        self, user_id: int | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> Page[Playlist]:
        """One's own, or somebody's public ones."""
        params = {"user_id": user_id, "limit": limit, "cursor": cursor}
        return await self._page("playlists", "playlists", Playlist, params)

    async def create_playlist(
        self, title: str, *, description: str | None = None, public: bool = True
    ) -> Playlist:
        body = {"title": title, "description": description, "is_public": public}
        return read_one(await self.request("POST", "playlists", json=body), "playlist", Playlist)

    async def playlist(self, playlist_id: int) -> OpenedPlaylist:
        """One with its tracks in order."""
        return read_one(await self.request("GET", f"playlists/{playlist_id}"), "", OpenedPlaylist)

    async def add_to_playlist(self, playlist_id: int, track_id: int, position: int | None = None) -> None:
        """Before what stands at `position`, or at the end."""
        body = {"track_id": track_id, "position": position}
        await self.request("POST", f"playlists/{playlist_id}/items", json=body)

    async def delete_playlist(self, playlist_id: int) -> None:
        await self.request("DELETE", f"playlists/{playlist_id}")
