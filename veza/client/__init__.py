"""A typed async client for Veza, on trio: REST, uploads and broadcasts by `VezaClient`, live chat by `ChatSocket`.

    async with VezaClient("http://localhost:8080") as veza:
        await veza.login("ada", "correct horse")
        track = await veza.wait_ready((await veza.upload("song.flac")).id)
        async with veza.chat() as chat:
            await chat.join("general")
            await chat.send("general", "hello")
            async for event in chat:
                match event:
                    case RoomMessage(username=name, content=text):
                        print(f"{name}: {text}")

Independent of the server: it shares no code with it, only the protocol (docs/socket-protocol.md, docs/rest-api.md).
"""

from veza.client.broadcasting import NotBroadcastable
from veza.client.errors import (
    ApiError,
    AuthFailed,
    ClientError,
    Closed,
    FrameRefused,
    ProtocolError,
    Unreachable,
)
from veza.client.finding import Found, Suggestion, Tag
from veza.client.frames import (
    ChangesMissed,
    Connected,
    DirectMessage,
    ErrorEvent,
    Event,
    Gap,
    History,
    JoinAck,
    Message,
    MessageAck,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    MessageUnpinned,
    MessageUpdated,
    Notification,
    Presence,
    Reaction,
    ReactionUpdated,
    ReadReceipt,
    Reconnecting,
    RoomMessage,
    RoomPresence,
    Typing,
    Unknown,
    UserConnected,
    UserDisconnected,
    Welcome,
)
from veza.client.listings import BriefListing, Category, Counter, Listing, ListingImage, Offer
from veza.client.media import (
    ListenLinks,
    LiveStream,
    NewStream,
    Peaks,
    Person,
    SourceSettings,
    StreamKey,
    StreamUrls,
    Track,
    TrackComment,
)
from veza.client.models import (
    Conversation,
    Invite,
    Login,
    Member,
    Page,
    Room,
    Session,
    Tokens,
    Unread,
    UnreadRoom,
    User,
)
from veza.client.notifications import Notice, Notices
from veza.client.people import OpenedPlaylist, Playlist, PlaylistItem
from veza.client.rest import VezaClient
from veza.client.socket import ChatSocket
from veza.client.tracks import UploadFailed

__all__ = [
    "ApiError",
    "AuthFailed",
    "BriefListing",
    "Category",
    "ChangesMissed",
    "ChatSocket",
    "ClientError",
    "Closed",
    "Connected",
    "Conversation",
    "Counter",
    "DirectMessage",
    "ErrorEvent",
    "Event",
    "Found",
    "FrameRefused",
    "Gap",
    "History",
    "Invite",
    "JoinAck",
    "ListenLinks",
    "Listing",
    "ListingImage",
    "LiveStream",
    "Login",
    "Member",
    "Message",
    "MessageAck",
    "MessageDeleted",
    "MessageEdited",
    "MessagePinned",
    "MessageUnpinned",
    "MessageUpdated",
    "NewStream",
    "NotBroadcastable",
    "Notice",
    "Notices",
    "Notification",
    "Offer",
    "OpenedPlaylist",
    "Page",
    "Peaks",
    "Person",
    "Playlist",
    "PlaylistItem",
    "Presence",
    "ProtocolError",
    "Reaction",
    "ReactionUpdated",
    "ReadReceipt",
    "Reconnecting",
    "Room",
    "RoomMessage",
    "RoomPresence",
    "Session",
    "SourceSettings",
    "StreamKey",
    "StreamUrls",
    "Suggestion",
    "Tag",
    "Tokens",
    "Track",
    "TrackComment",
    "Typing",
    "Unknown",
    "Unreachable",
    "Unread",
    "UnreadRoom",
    "UploadFailed",
    "User",
    "UserConnected",
    "UserDisconnected",
    "VezaClient",
    "Welcome",
]
