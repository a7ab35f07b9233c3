"""Tracks: uploading files, waiting until they can be heard, finding and hearing them."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
import trio

from veza.client.errors import AuthFailed, ClientError
from veza.client.frames import Notification
from veza.client.media import Peaks, StreamUrls, Track, TrackComment
from veza.client.models import Page
from veza.client.reading import content_type, pieces
from veza.client.sending import send_long
from veza.client.socket import ChatSocket
from veza.client.transport import Transport, judge, read_as, read_one
from veza.client.tus import Upload, store

if TYPE_CHECKING:
    from veza.client.rest import VezaClient

RESUMABLE_FROM: Final = 8 * 1024 * 1024  # bytes; below, sending it again is no pity
LOOKS: Final = (0.25, 0.5, 1.0, 2.0)  # seconds between two looks at a track that is being processed

Progress = Callable[[int, int], None]
"""Told bytes sent, and bytes of the file."""


class UploadFailed(ClientError):
    """The file was taken, but cannot be made a track; the text says why.

    Attributes:
        track: as it stands.
    """

    def __init__(self, track: Track) -> None:
        super().__init__(track.failure or "the track could not be processed")
        self.track = track


class Tracks(Transport):
    """What `VezaClient` offers of tracks."""

    async def upload(
        self,
        path: str | PathLike[str],
        *,
        title: str | None = None,
        artist: str | None = None,
        album: str | None = None,
        genre: str | None = None,
        description: str | None = None,
        tags: Iterable[str] = (),
        public: bool = True,
        resumable: bool | None = None,
        progress: Progress | None = None,
    ) -> Track:
        """Upload a file; returns the track, which is `processing` then (see `wait_ready`).

        The file is read as it is sent, never whole into memory. What is not told is taken from its own tags, the
        title at last from its name. A `resumable` upload (by default: of 8 MiB and more) goes on where it was when
        the connection breaks, for as long as `Unreachable` does not last two minutes.

        Raises:
            OSError: the file cannot be read.
            ApiError: 413 `TOO_LARGE`, 415 when it is no audio or video, 507 when the server's disk is full.
            Unreachable: a plain upload broke; whether it arrived is unknown.
        """
        file = Path(path)
        size = (await trio.to_thread.run_sync(file.stat)).st_size
        fields = {
            "title": title,
            "artist": artist,
            "album": album,
            "genre": genre,
            "description": description,
            "tags": ",".join(tags) or None,
            "is_public": "true" if public else "false",
        }
        told = {name: value for name, value in fields.items() if value is not None}
        tell = progress or (lambda _sent, _total: None)
        if resumable or (resumable is None and size >= RESUMABLE_FROM):
            upload = Upload(file, size, content_type(file), told)
            return await store(self, upload, self._long, tell)
        return await self._post_file(file, size, told, tell)

    async def _post_file(self, file: Path, size: int, fields: dict[str, str], progress: Progress) -> Track:
        boundary = f"veza-{secrets.token_hex(16)}"
        before, after = _multipart(boundary, fields, file.name, content_type(file))

        async def body() -> AsyncIterator[bytes]:
            yield before
            async for piece, sent in pieces(file, 0, size):
                yield piece
                progress(sent, size)
            yield after

        answer = await self._long(
            "POST",
            "/api/v1/tracks",
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
            body,
            len(before) + size + len(after),
        )
        return read_one(judge(answer).data, "track", Track)

    async def _long(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: Callable[[], AsyncIterator[bytes]],
        length: int,
    ) -> httpx.Response:
        """A long request as who we are; if the token has run out, once more with a new one."""
        for last in (False, True):
            used = self.tokens
            if used is None:
                raise AuthFailed(401, "AUTH_REQUIRED", "not logged in")
            own = {"Authorization": f"Bearer {used.access_token}", **headers}
            answer = await send_long(self.url, method, target, own, body(), length=length, verify=self.verify)
            if answer.status_code != 401 or last or used.refresh_token is None:
                return answer
            await self.renew(used)
        raise AssertionError("unreachable")

    async def wait_ready(
        self, track_id: int, *, progress: Callable[[float], None] | None = None, timeout: float | None = None
    ) -> Track:
        """Wait until a track of one's own can be heard.

        Args:
            progress: told how far processing is, 0 … 1; this listens on a chat socket.
            timeout: seconds, then `trio.TooSlowError`.

        Raises:
            UploadFailed: it cannot be processed.
        """
        with trio.fail_after(float("inf") if timeout is None else timeout):
            if progress is None:
                return await self._look_until_ready(track_id)
            track = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear_progress, track_id, progress)
                try:
                    track = await self._look_until_ready(track_id)
                except ClientError as error:
                    failed = error
                nursery.cancel_scope.cancel()
            if track is None:
                raise failed
            return track

    async def _look_until_ready(self, track_id: int) -> Track:
        looks = 0
        while True:
            track = await self.track(track_id)
            if track.status == "failed":
                raise UploadFailed(track)
            if track.status == "ready":
                return track
            await trio.sleep(LOOKS[min(looks, len(LOOKS) - 1)])
            looks += 1

    async def _hear_progress(self, track_id: int, progress: Callable[[float], None]) -> None:
        """Pass on what the server says of a track, as long as it can be heard; looking goes on in any case."""
        try:
            async with ChatSocket(cast("VezaClient", self)) as socket:
                async for event in socket:
                    data = event.data if isinstance(event, Notification) else {}
                    if data.get("kind") == "track_progress" and data.get("track_id") == track_id:
                        progress(float(data.get("progress") or 0))
        except (ClientError, ValueError):
            pass

    # Finding -------------------------------------------------------------------------------------------

    async def track(self, track_id: int) -> Track:
        return read_one(await self.request("GET", f"tracks/{track_id}"), "track", Track)

    async def tracks(
        self,
        search: str | None = None,
        *,
        tags: Iterable[str] = (),
        genre: str | None = None,
        artist: str | None = None,
        uploader: str | int | None = None,
        sort: str = "new",
        page: int = 1,
        limit: int = 20,
    ) -> Page[Track]:
        """Those everybody may hear, and one's own; `sort` is `new`, `popular` or `title`."""
        params = {
            "search": search,
            "tags": ",".join(tags) or None,
            "genre": genre,
            "artist": artist,
            "uploader": uploader,
            "sort": sort,
            "page": page,
            "limit": limit,
        }
        return await self._page("tracks", "tracks", Track, params)

    async def my_tracks(self, *, page: int = 1, limit: int = 20) -> Page[Track]:
        """One's own, whatever their state."""
        return await self._page("tracks/my", "tracks", Track, {"page": page, "limit": limit})

    async def update_track(self, track_id: int, **fields: Any) -> Track:
        """Change `title`, `artist`, `album`, `genre`, `description`, `tags`, `is_public`; None clears."""
        return read_one(await self.request("PUT", f"tracks/{track_id}", json=fields), "track", Track)

    async def delete_track(self, track_id: int) -> None:
        """For ever, its files included."""
        await self.request("DELETE", f"tracks/{track_id}")

    # Hearing -------------------------------------------------------------------------------------------

    async def stream_urls(self, track_id: int) -> StreamUrls:
        """Where its bytes are: addresses that need no login, for a player."""
        urls = read_as(StreamUrls, await self.request("GET", f"tracks/{track_id}/stream"))
        return StreamUrls(
            url=self.absolute(urls.url),
            hls_url=self.absolute(urls.hls_url) if urls.hls_url else None,
            expires_at=urls.expires_at,
            content_type=urls.content_type,
        )

    async def peaks(self, track_id: int) -> Peaks:
        return read_as(Peaks, await self.request("GET", f"tracks/{track_id}/peaks"))

    async def report_play(self, track_id: int, listened_s: float, *, completed: bool = False) -> None:
        """Tell how many seconds were heard since the last report, and whether it was heard to its end."""
        body = {"listened_s": listened_s, "completed": completed}
        await self.request("POST", f"tracks/{track_id}/play", json=body)

    async def like(self, track_id: int) -> None:
        await self.request("PUT", f"tracks/{track_id}/like")

    async def unlike(self, track_id: int) -> None:
        await self.request("DELETE", f"tracks/{track_id}/like")

    async def repost(self, track_id: int) -> None:
        """Pass it on to those who follow one."""
        await self.request("PUT", f"tracks/{track_id}/repost")

    async def unrepost(self, track_id: int) -> None:
        await self.request("DELETE", f"tracks/{track_id}/repost")

    async def comment(self, track_id: int, content: str, at_ms: int) -> TrackComment:
        """Say something about a place in it."""
        body = {"content": content, "at_ms": at_ms}
        data = await self.request("POST", f"tracks/{track_id}/comments", json=body)
        return read_one(data, "comment", TrackComment)

    async def comments(self, track_id: int, *, page: int = 1, limit: int = 100) -> Page[TrackComment]:
        params = {"page": page, "limit": limit}
        return await self._page(f"tracks/{track_id}/comments", "comments", TrackComment, params)


def _multipart(boundary: str, fields: dict[str, str], filename: str, kind: str) -> tuple[bytes, bytes]:
    """What goes before and behind the file (RFC 7578)."""
    lines = []
    for name, value in fields.items():
        lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    # As browsers write it (WHATWG "multipart/form-data encoding"): what would end the name early is escaped.
    safe = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    lines.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    return "".join(lines).encode("utf-8", "surrogateescape"), f"\r\n--{boundary}--\r\n".encode()
