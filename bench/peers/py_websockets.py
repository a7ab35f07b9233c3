"""The hub as users of `websockets` on uvloop write it.   python py_websockets.py PORT"""

# mypy: ignore-errors
import asyncio
import itertools
import json
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve

subscribers = set()
ids = itertools.count(1)


async def handler(websocket):
    subscribers.add(websocket)
    try:
        async for text in websocket:
            incoming = json.loads(text)
            if incoming["type"] != "room_message":
                continue
            message = {
                "type": "room_message",
                "data": {
                    "id": next(ids),
                    "room": "general",
                    "user_id": 1,
                    "username": "alice",
                    "content": incoming["data"]["content"],
                    "message_type": "text",
                    "created_at": "2023-11-20T10:30:00Z",
                },
                "timestamp": "2023-11-20T10:30:00Z",
            }
            broadcast(subscribers, json.dumps(message))
    finally:
        subscribers.discard(websocket)


async def main():
    async with serve(handler, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.Future()


uvloop.run(main())
