"""`/chat/rooms/{room}/words`: what is not said in a room, for its owner and moderators. Nobody else sees the list."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from quart import Blueprint, Response

from veza.actors.commands import Describe, SetWords
from veza.actors.errors import denied
from veza.actors.registry import Identity
from veza.actors.rules import MODERATOR, level
from veza.actors.words import LONGEST, MOST, NotAWord, fold
from veza.db import room_words as words_db
from veza.http.api.access import signed_in
from veza.http.api.chat import ask, person, rooms
from veza.http.api.envelope import ok
from veza.http.api.intake import takes
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

room_words = Blueprint("room_words", __name__, url_prefix="/chat/rooms")


class Chosen(Struct, frozen=True):
    """All of them: what is not in the list may be said again."""

    words: list[str]

    def check(self) -> Iterator[tuple[str, str]]:
        # Before any is folded, which takes its time while nothing else happens here.
        if len(self.words) > 4 * MOST or sum(map(len, self.words)) > 2 * MOST * LONGEST:
            yield "words", f"A room has at most {MOST} of them, of at most {LONGEST} characters each."
            return
        try:
            if len(self.folded()) > MOST:
                yield "words", f"A room has at most {MOST} of them."
        except NotAWord:
            yield "words", f"Each must be a word or a short phrase, of at most {LONGEST} characters."

    def folded(self) -> tuple[str, ...]:
        """Each once. Raises NotAWord."""
        return tuple(sorted({fold(word) for word in self.words}))


class RoomWords(Struct, frozen=True):
    """As they are compared: without case, accents and what is not seen."""

    words: list[str]


@room_words.get("/<room>/words")
@signed_in
@answers(RoomWords)
@fails(403, 404)
async def list_words(room: str, identity: Identity) -> Response:
    """The words that are not said in a room, for its moderators."""
    room_id = await rooms().resolve(room)
    summary = await rooms().ask(room_id, Describe(person=person(identity)))
    if level(summary.role, identity.role) < MODERATOR:
        raise denied("Only a room's owner and moderators may see its words.")
    return ok(RoomWords(await services().db.read(words_db.of_room, room_id)))


@room_words.put("/<room>/words")
@signed_in
@takes(Chosen)
@answers(RoomWords)
@fails(403, 404)
async def choose_words(room: str, identity: Identity, data: Chosen) -> Response:
    """Choose the words that nobody below a moderator says in a room, in posts and when they are edited: 200 at most.

    Found as whole words, however they are written; who tries is told where, with `WORD_FILTERED`.
    """
    stored = await ask(room, SetWords(person=person(identity), words=data.folded()))
    return ok(RoomWords(stored), message="Saved.")
