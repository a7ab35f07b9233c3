"""A typed async client for Veza, on trio: REST by `VezaClient`, live chat by `ChatSocket`.

    async with VezaClient("http://localhost:8080") as veza:
        await veza.login("ada", "correct horse")
        async with veza.chat() as chat:
            await chat.join("general")
            await chat.send("general", "hello")
            async for event in chat:
                match event:
                    case RoomMessage(username=name, content=text):
                        print(f"{name}: {text}")

Independent of the server: it shares no code with it, only the protocol (docs/socket-protocol.md, docs/rest-api.md).
"""

from veza.client.errors import (
    ApiError,
    AuthFailed,
    ClientError,
    Closed,
    FrameRefused,
    ProtocolError,
    Unreachable,
)
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
from veza.client.rest import VezaClient
from veza.client.socket import ChatSocket

__all__ = [
    "ApiError",
    "AuthFailed",
    "ChangesMissed",
    "ChatSocket",
    "ClientError",
    "Closed",
    "Connected",
    "Conversation",
    "DirectMessage",
    "ErrorEvent",
    "Event",
    "FrameRefused",
    "Gap",
    "History",
    "Invite",
    "JoinAck",
    "Login",
    "Member",
    "Message",
    "MessageAck",
    "MessageDeleted",
    "MessageEdited",
    "MessagePinned",
    "MessageUnpinned",
    "MessageUpdated",
    "Notification",
    "Page",
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
    "Tokens",
    "Typing",
    "Unknown",
    "Unreachable",
    "Unread",
    "UnreadRoom",
    "User",
    "UserConnected",
    "UserDisconnected",
    "VezaClient",
    "Welcome",
]
