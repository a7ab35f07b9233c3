"""What finds what: accents, two languages, typing errors, beginnings, order; and any text whatever is answered."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.conftest import Library
from veza.actors import rules
from veza.db import search_words
from veza.db.pool import Database
from veza.db.search_words import distance, nearest


async def test_accents_ligatures_and_capitals_make_no_difference(library: Library) -> None:
    zoe = await library.named("zoe_b", first_name="Zoé", last_name="Béranger")
    gross = await library.named("the_gross", first_name="Jürgen", last_name="Groß")
    heart = await library.song(zoe, "Mon cœur à l'été", artist="Ça va")
    for text in ("zoé", "ZOE", "beranger", "Béranger zoé", "zoe_b"):
        assert await library.found("people", text) == [zoe.id], text
    for text in ("groß", "gross", "GROSS", "jurgen"):
        assert gross.id in await library.found("people", text), text
    for text in ("coeur", "cœur", "CŒUR", "Coeur ete", "été", "ca va", "l'été"):
        assert await library.found("tracks", text) == [heart], text
    assert await library.found("tracks", "heart") == []


async def test_french_and_english_words_are_found_in_every_form(library: Library) -> None:
    owner = await library.named("owner_of_all")
    room = await library.room("forms", owner)
    songs = {
        "guitares électriques": ("guitare", "guitares", "guitare électrique", "electriques"),
        "chanteuse": ("chanteuses",),
        "playing louder": ("played", "plays loud", "play"),
        "recordings": ("record", "recorded", "recording"),
    }
    for title, texts in songs.items():
        track = await library.song(owner, title)
        listing = await library.listing(owner, title)
        message = await library.said(room, owner, f"so: {title}!")
        for text in texts[:-1] if title == "playing louder" else texts:
            if text == "plays loud":
                continue
            assert track in await library.found("tracks", text), text
            assert listing in await library.found("listings", text), text
            assert message in await library.found("messages", text, owner), text


async def test_stop_words_of_either_language_are_words_of_names(library: Library) -> None:
    owner = await library.named("whose")
    the_who = await library.song(owner, "The Who")
    son = await library.song(owner, "Le son")
    assert (await library.found("tracks", "the who"))[0] == the_who
    assert (await library.found("tracks", "le son"))[0] == son
    assert son in await library.found("tracks", "son")


async def test_operators(library: Library) -> None:
    owner = await library.named("operator")
    a = await library.song(owner, "blue moon rising")
    b = await library.song(owner, "rising blue sun")
    assert set(await library.found("tracks", "rising")) == {a, b}
    assert await library.found("tracks", '"blue moon"') == [a]
    assert await library.found("tracks", "rising -moon") == [b]
    assert set(await library.found("tracks", "moon or sun")) == {a, b}
    assert await library.found("tracks", "moon sun") == []
    assert await library.found("tracks", "-moon") == []  # it would be nearly everything
    room = await library.room("operators", owner)
    x = await library.said(room, owner, "blue moon rising")
    y = await library.said(room, owner, "the moon is blue")
    assert await library.found("messages", '"blue moon"', owner) == [x]
    assert await library.found("messages", "moon -rising", owner) == [y]
    assert await library.found("messages", "-rising", owner) == []
    assert await library.found("messages", "rising or -blue", owner) == []


async def test_typing_errors_are_forgiven_in_names_and_titles_alone(library: Library) -> None:
    person = await library.named("beatrice", first_name="Béatrice", last_name="Lefèvre")
    song = await library.song(person, "Symphonie électronique", artist="Orchestre")
    listing = await library.listing(person, "Guitare classique")
    room = await library.room("Saxophones", person)
    message = await library.said(room, person, "saxophone")
    for kind, texts, id in (
        ("people", ("beatirce", "lefevree", "betrice"), person.id),
        ("tracks", ("symfonie", "symphonie electroniqeu", "orchetsre"), song),
        ("listings", ("guitrae", "guitar", "classiqeu"), listing),
        ("rooms", ("saxohpones",), room),
    ):
        for text in texts:
            assert await library.found(kind, text, person) == [id], (kind, text)
    assert await library.found("messages", "saxohpone", person) == []
    assert await library.found("messages", "saxophones", person) == [message]
    assert await library.found("tracks", "symfonie -orchestre") == []  # with operators nothing is guessed


async def test_what_is_exact_comes_before_what_is_like_it(library: Library) -> None:
    owner = await library.named("ranker")
    likely = await library.song(owner, "gitares", play_count=1_000)
    exact = await library.song(owner, "gitanes")
    assert await library.found("tracks", "gitanes") == [exact, likely]


async def test_order_is_sensible_and_the_same_every_time(library: Library) -> None:
    owner = await library.named("orderly")
    about = await library.song(owner, "Nothing of the kind", description="a cello, and a cello", play_count=9)
    album = await library.song(owner, "Suite", album="Cello works")
    longer = await library.song(owner, "Cello and piano", play_count=5)
    exact = await library.song(owner, "Cello")
    same = [await library.song(owner, "Two more with cello inside") for _ in range(3)]
    found = await library.found("tracks", "cello")
    assert found[:2] == [exact, longer] and found[-2:] == [album, about]
    assert [id for id in found if id in same] == same[::-1]
    assert all([await library.found("tracks", "cello") == found for _ in range(5)])
    assert await library.found("tracks", "cello", limit=3) == found[:3]
    people = [await library.named(name) for name in ("drummer_x", "x_drummer", "drummer")]
    assert await library.found("people", "drummer") == [people[2].id, people[0].id, people[1].id]


async def test_beginnings_of_words_are_suggested(library: Library) -> None:
    owner = await library.named("eloise_k", first_name="Éloïse", last_name="Kerr")
    other = await library.named("listens")
    await library.song(owner, "Musique électronique", play_count=50)
    await library.song(owner, "Élégie", play_count=2)
    await library.song(owner, "Électre", public=False)
    await library.listing(owner, "Electric guitar, éléphant grey")
    await library.room("Elements", owner)
    await library.room("Elephants", owner, kind="private")
    found = await library.begun("éle", other, limit=20)
    assert ("tracks", "Musique électronique") in found and ("tracks", "Élégie") in found
    assert ("listings", "Electric guitar, éléphant grey") in found and ("rooms", "Elements") in found
    assert ("tracks", "Électre") not in found and ("rooms", "Elephants") not in found
    own = await library.begun("éle", owner, limit=20)
    assert ("tracks", "Électre") in own and ("rooms", "Elephants") in own
    assert await library.begun("ele mus", type="tracks") == [("tracks", "Musique électronique")]
    assert await library.begun("KER elo", type="people") == [("people", "eloise_k")]
    assert await library.begun("ectro") == []  # the middle of a word
    assert len(await library.begun("e", limit=2)) == 2
    assert await library.begun("e", type="people,rooms", limit=20)
    suggestion = (await library.ask("/search/autocomplete", q="eloi"))["suggestions"][0]
    assert suggestion == {"type": "people", "id": owner.id, "text": "eloise_k", "detail": "Éloïse Kerr"}


async def test_tags(library: Library) -> None:
    owner = await library.named("tagger")
    await library.song(owner, "One", tags=["jazz", "live"], play_count=1000)
    await library.song(owner, "Two", tags=["jam", "live"])
    await library.song(owner, "Three", tags=["jam", "live"], public=False)
    assert (await library.ask("/tags"))["tags"][0] == {"tag": "live", "count": 2}
    assert [each["tag"] for each in (await library.ask("/tags", search="ja"))["tags"]] == ["jam", "jazz"]
    trending = (await library.ask("/tags/trending"))["tags"]
    assert [each["tag"] for each in trending] == ["live", "jazz", "jam"]
    await library.sql("UPDATE tracks SET created_at = now() - interval '40 days' WHERE title = 'One'")
    assert [each["tag"] for each in (await library.ask("/tags/trending"))["tags"]] == ["jam", "live"]
    assert len((await library.ask("/tags/trending", days=60, limit=1))["tags"]) == 1


# Bad days ----------------------------------------------------------------------------------------------

HOSTILE = [
    "the", "le la", "le la les", "à", ".", "!!! ???", "'", "''", "\\", "\\'", '"', '""', "-", "--", "- -", "|", "&",
    "!", "a & | b", "(", ")", "((((", "a:*", "':*'", "<->", "foo <2> bar", "or", "or or", "-or",
    "a or", '"a -b', "%", "_",
    "%%%", "🎸", "🎸 🎷", "👩‍👩‍👧", "\u202e", "\u0301", "ﷺ" * 50, "a" * 200, "é" * 200, "ab " * 66, "x.y.z/../..",
    "http://example.org/a?b=c", "a@b.c", "1e309", "-1", "NULL", "$1", "'; DROP TABLE users; --", "\t", "٣", "中文", "ß",
    "\ufffd", "a\u00a0b", "İ", "ſ",
]  # fmt: skip


async def test_any_text_is_answered(library: Library) -> None:
    person = await library.named("anybody_here")
    for text in HOSTILE:
        for path in ("/search", "/search/autocomplete", "/chat/search", "/users/search"):
            limit = 100 if path == "/users/search" else 200
            answer = await library.api.get(f"{path}?{urlencode({'q': text[:limit]})}", token=person.token)
            blank = not rules.shows(text.strip())
            assert answer.status == (400 if blank else 200), (path, text, answer.raw)
        for path in ("/users", "/tracks", "/listings", "/chat/rooms"):
            answer = await library.api.get(f"{path}?{urlencode({'search': text[:100]})}", token=person.token)
            assert answer.status == 200, (path, text, answer.raw)
    # Half of a surrogate pair is no character: what arrives in its place is one.
    assert (await library.api.get("/search?q=%ED%A0%80")).status == 200


async def test_what_is_no_search_is_refused(library: Library) -> None:
    for path in ("/search", "/search/autocomplete"):
        for query in ("", "?q=", "?q=%20", "?q=%00", "?q=a%00b", "?q=" + "x" * 201, "?q=a&limit=0", "?q=a&limit=x",
                      "?q=a&limit=101", "?q=a&type=cats", "?q=a&type=people,cats",
                      "?q=" + "%C3%A9" * 160_000):  # fmt: skip
            answer = await library.api.get(path + query)
            assert answer.status in (400, 414), (path, query[:50], answer.status)
            assert answer.details or answer.status == 414
    assert (await library.api.get("/search/autocomplete?q=a&type=messages")).status == 400
    assert (await library.api.get("/tags/trending?days=0")).status == 400
    nothing = await library.ask("/search", q="nothing like this")
    assert nothing == {"people": [], "rooms": [], "tracks": [], "listings": [], "messages": []}


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60))
def test_any_text_can_be_read(postgres: Any, reader: Any, text: str) -> None:
    async def run() -> None:
        reading = await search_words.read(reader, text)
        for query in (reading.said, reading.named, reading.begun, await search_words.mend(reader, reading)):
            if query is not None:
                await reader.fetchval("SELECT to_tsvector('simple', 'a') @@ $1::tsquery", query)

    postgres._run(run)


@pytest.fixture(scope="module")
def reader(postgres: Any) -> Any:
    """A connection for many questions, outside of trio."""
    import asyncpg

    url = postgres.create()
    connection: list[Any] = []

    async def connect() -> None:
        connection.append(await asyncpg.connect(url))
        await connection[0].execute("INSERT INTO vocabulary VALUES ('guitare'), ('l''amour'), ('wörter')")

    async def close() -> None:
        await connection[0].close()

    postgres._run(connect)
    yield connection[0]
    postgres._run(close)
    postgres.drop(url)


# Distances ---------------------------------------------------------------------------------------------

SHORT = st.text("abc", max_size=8)


@given(one=SHORT, other=SHORT)
def test_a_distance_is_symmetric_and_nought_for_the_same_alone(one: str, other: str) -> None:
    apart = distance(one, other, 3)
    assert apart == distance(other, one, 3)
    assert (apart == 0) == (one == other)
    assert apart <= 4


def test_distances_by_hand() -> None:
    assert distance("guitare", "guitrae", 2) == 1
    assert distance("guitare", "gitare", 2) == 1
    assert distance("guitare", "guittare", 2) == 1
    assert distance("guitare", "guibare", 2) == 1
    assert distance("guitare", "gitrae", 2) == 2
    assert distance("guitare", "violon", 2) == 3
    assert nearest("gitare", ["guitare", "gitane", "tare", "gitare"]) == ["guitare", "gitane", "tare"]
    assert nearest("abcd", ["abdc", "abxy"]) == ["abdc"]


async def test_words_of_names_are_noted_once_and_mend_later_searches(library: Library, db: Database) -> None:
    owner = await library.named("noted")
    await library.song(owner, "Bombarde bombarde 1234 ab")
    words = await library.sql("SELECT array_agg(word ORDER BY word) FROM vocabulary WHERE word LIKE 'bomb%'")
    assert words == ["bombarde"]
    assert await library.sql("SELECT count(*) FROM vocabulary WHERE word IN ('1234', 'ab')") == 0


async def test_lists_of_people_know_names_without_accents(library: Library) -> None:
    person = await library.named("sorenk", first_name="Søren", last_name="Gaël-Éon")
    for text in ("soren", "Søren", "øren", "gael", "eon gae", "renk"):
        answer = await library.api.get(f"/users?{urlencode({'search': text})}", token=person.token)
        assert [each["id"] for each in answer.data["users"]] == [person.id], text
        assert answer.json["meta"]["total"] == 1


async def test_lists_of_tracks_know_words_without_accents_and_parts_of_words(library: Library) -> None:
    owner = await library.named("lists_tracks")
    track = await library.song(owner, "Guitares électriques", artist="Zoé")
    for text in ("guitare", "electrique", "ZOE guitares", "uitar", "électri", "zoe el"):
        found = await library.ask("/tracks", search=text)
        assert [each["id"] for each in found["tracks"]] == [track], text
        assert found["total"] == 1
    for text in ("piano", "guitare piano", "zoe he"):
        assert (await library.ask("/tracks", search=text))["tracks"] == [], text
