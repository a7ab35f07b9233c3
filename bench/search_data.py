"""A large community, the same every time: people, rooms, tracks, listings and millions of messages.

Words follow Zipf's law in French and English, with accents and with typos; rooms are of very different sizes, one is
huge, most speak one language. Everything comes from one seed. Rows are copied in without their indexes, which are made
afterwards, and without triggers: what the seed says of counts is what is so.
"""

# ruff: noqa: SIM905 - words are read more easily as a text

import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec

SEED: Final = 20_240_501
HUGE: Final = 2  # the room everybody is in (1 is the one every database begins with)


class Scale(msgspec.Struct, frozen=True):
    """How many rows. `people` is also the number of tracks and of listings."""

    people: int = 100_000
    messages: int = 5_000_000
    rooms: int = 2_000
    conversations: int = 10_000


# The most frequent first. Where a language has more words, they are made of its syllables.
_ENGLISH: Final = """the to i a and you of it in is that for my on me have with we your this be are so was but not at do
what all just can if about know like get out one up no as when from good time there love music song great play will
go now how would they think track need band listen sound really tonight guitar bass drums show live new mix vocals
chorus record recording studio feedback thanks sounds amazing playing played plays singer voice melody rhythm
keyboard piano violin amplifier pedal strings tuning tune rehearsal rehearse concert gig stage album release
released releases mastering mixing compressor reverb delay loop sample beats producer production lyrics verse bridge
microphone headphones speakers interface cable jack festival tickets crowd dancing dance jazz blues rock metal funk
soul reggae country folk electronic techno house ambient classical orchestra conductor trumpet saxophone flute
clarinet cello harmonica banjo ukulele accordion""".split()
_FRENCH: Final = """de la le et les je des en un du que est une pas pour qui dans ce il sur on ne plus au avec se vous
mais tout ça moi nous tu ai c'est bien comme son très faire fait même être ou si aussi ma mon ton deux musique
morceau groupe guitare basse batterie chanson concert répétition répéter écouter écoute scène voix chanter chanteuse
chanteur mélodie rythme piano clavier violon ampli pédale cordes accordage studio enregistrement enregistrer
enregistré mixage matériel micro casque enceintes câble festival billets soirée danser danse jazz blues rock métal
électronique techno classique orchestre chef trompette saxophone flûte clarinette violoncelle harmonica accordéon
cœur sœur œuvre été année création créé déjà merci génial super dernière première nouvelle nouveau album sortie
paroles couplet refrain pont arrangement ingénieur production producteur élève élèves leçon leçons théorie solfège
gamme accord accords majeur mineur tempo noire croche soupir française français à là où""".split()
_ONSETS: Final = {
    "en": "b bl br c ch cl cr d dr f fl fr g gr h j k l m n p pl pr qu r s sh sl st str t th tr v w".split(),
    "fr": "b bl br c ch cl cr d dr f fl fr g gr j l m n p pl pr qu r s t tr v gn ç".split(),
}
_CORES: Final = {
    "en": "a e i o u ea oo ou ai igh ee".split(),
    "fr": "a e i o u é è ê ai ou eu oi an on in au eau î ô œu ï".split(),
}
_ENDS: Final = {
    "en": ["", "", "n", "t", "s", "ck", "ng", "ing", "ed", "er", "ly", "ness"],
    "fr": ["", "", "n", "t", "s", "r", "que", "ment", "tion", "eur", "euse", "é", "ée", "és"],
}
FIRST_NAMES: Final = """Zoé Éloïse Léa Chloé Émile François Jérôme Noël Inès Amélie Théo Hélène Benoît Anaïs Loïc
Gaël Maëlle Raphaël Céline André John Jane Robert Alice Oliver Emma Jack Sophie Harry Grace Max Björn Jürgen Søren
Zoë Renée Aurélie Stéphane Cécile Mathilde""".split()
LAST_NAMES: Final = """Lefèvre Béranger Müller Groß Çelik Dupré Château Martin Bernard Dubois Thomas Richard Durand
Leroy Moreau Simon Laurent Michel García Smith Jones Taylor Brown Wilson Evans Walker Wright Robinson Thompson White
Hughes Edwards Green Lewis Wood Harris Clarke Jackson Œuvrard L'Hôte""".split()


class Words:
    """A language's vocabulary, drawn by Zipf's law; one word in a hundred has a typo."""

    def __init__(self, language: str, chance: random.Random, size: int = 30_000) -> None:
        known = _ENGLISH if language == "en" else _FRENCH
        made: dict[str, None] = dict.fromkeys(known)
        while len(made) < size:
            syllables = chance.choice((1, 2, 2, 2, 3, 3))
            word = "".join(
                chance.choice(_ONSETS[language]) + chance.choice(_CORES[language]) for _ in range(syllables)
            )
            made.setdefault(word + chance.choice(_ENDS[language]))
        self.all = list(made)
        self._sums = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self.all))))
        self._chance = chance

    def draw(self, count: int) -> list[str]:
        words = self._chance.choices(self.all, cum_weights=self._sums, k=count)
        return [misspelt(word, self._chance) if self._chance.random() < 0.01 else word for word in words]

    def phrases(self, count: int, shortest: int, longest: int) -> list[str]:
        """Pieces of sentences; what people say is put together from them."""
        lengths = [self._chance.randint(shortest, longest) for _ in range(count)]
        words = iter(self.draw(sum(lengths)))
        return [" ".join(itertools.islice(words, length)) for length in lengths]


def misspelt(word: str, chance: random.Random) -> str:
    """Two neighbours change places, or a letter is lost."""
    if len(word) < 4:
        return word
    at = chance.randrange(1, len(word) - 1)
    if chance.random() < 0.5:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :]


async def fill(conn: Any, scale: Scale, told: Callable[[str], None] = print) -> None:
    """Fill a database that has the schema and nothing else. `conn` must be a superuser's."""
    chance = random.Random(SEED)
    english, french = Words("en", chance), Words("fr", chance)
    await conn.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    await conn.execute("SET maintenance_work_mem = '512MB'; SET statement_timeout = 0")
    for table, columns, rows in (
        ("users", _USERS, _users(scale, chance, english, french)),
        ("rooms", _ROOMS, _rooms(scale, chance, english, french)),
        ("room_members", ("room_id", "user_id"), _members(scale, chance)),
        ("follows", ("follower_id", "followed_id"), _follows(scale, chance)),
        ("blocks", ("blocker_id", "blocked_id"), [(n, n + 7) for n in range(1, 200)]),
        ("tracks", _TRACKS, _tracks(scale, chance, english, french)),
        ("listings", _LISTINGS, _listings(scale, chance, english, french)),
        ("offers", _OFFERS, _offers(scale, chance)),
        ("notifications", _NOTIFICATIONS, _notifications(scale, chance)),
        ("messages", _MESSAGES, _messages(scale, chance, english, french)),
    ):
        began = time.perf_counter()
        indexes = await _without_indexes(conn, table)
        await conn.copy_to_table(table, columns=columns, source=_lines(rows), format="text")
        copied = time.perf_counter() - began
        for definition in indexes:
            await conn.execute(definition)
        told(f"{table}: {copied:.0f} s, its indexes {time.perf_counter() - began - copied:.0f} s")
    await conn.execute(
        """UPDATE rooms r SET last_seq = l.seq, last_message_at = l.at
           FROM (SELECT room_id, max(seq) AS seq, max(created_at) AS at FROM messages GROUP BY room_id) AS l
           WHERE r.id = l.room_id"""
    )
    await conn.execute(
        """INSERT INTO room_members (room_id, user_id)
           SELECT id, unnest(ARRAY[user_low, user_high]) FROM rooms WHERE kind = 'direct'"""
    )
    await conn.execute(
        """UPDATE rooms r SET member_count = m.count
           FROM (SELECT room_id, count(*) FROM room_members GROUP BY room_id) AS m WHERE r.id = m.room_id"""
    )
    for table in ("users", "rooms", "tracks", "listings", "offers", "messages"):
        await conn.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        )
    await conn.execute(  # nobody's trigger was asked
        """INSERT INTO vocabulary
           SELECT DISTINCT word FROM (
               SELECT unnest(tsvector_to_array(names)) FROM users
               UNION ALL SELECT unnest(tsvector_to_array(names)) FROM tracks
               UNION ALL SELECT unnest(tsvector_to_array(names)) FROM listings
               UNION ALL SELECT unnest(tsvector_to_array(plain_words(name))) FROM rooms WHERE kind <> 'direct'
           ) AS known (word) WHERE char_length(word) BETWEEN 4 AND 40 AND word !~ '[0-9]' ON CONFLICT DO NOTHING"""
    )
    await conn.execute("SET session_replication_role = DEFAULT")


async def _without_indexes(conn: Any, table: str) -> list[str]:
    """Drop the table's indexes but those of constraints; returns how they are made again."""
    rows = await conn.fetch(
        """SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           WHERE i.indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)""",
        table,
    )
    for name, _ in rows:
        await conn.execute(f"DROP INDEX {name}")
    return [definition for _, definition in rows]


async def _lines(rows: Any) -> AsyncIterator[bytes]:
    """Rows in COPY's text form, in large pieces."""
    for piece in _pieces(rows, 5000):
        yield "".join(
            "\t".join("\\N" if value is None else str(value) for value in row) + "\n" for row in piece
        ).encode()


def _pieces(rows: Any, size: int) -> Iterator[list[Any]]:
    source = iter(rows)
    while piece := list(itertools.islice(source, size)):
        yield piece


_USERS: Final = (
    "id",
    "username",
    "email",
    "password_hash",
    "first_name",
    "last_name",
    "bio",
    "is_active",
    "created_at",
)


def _users(scale: Scale, chance: random.Random, english: Words, french: Words) -> Iterator[tuple[Any, ...]]:
    bios = english.phrases(2000, 3, 12) + french.phrases(2000, 3, 12)
    handles = [
        word
        for word in english.all + french.all
        if word.isascii() and word.isalpha() and 3 <= len(word) <= 12
    ]
    for n in range(1, scale.people + 1):
        first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        named = chance.random() < 0.7
        yield (
            n,
            f"{chance.choice(handles)}_{n}",
            f"person{n}@example.org",
            "none",
            first if named else None,
            last if named else None,
            chance.choice(bios) if chance.random() < 0.3 else None,
            chance.random() > 0.01,
            _day(n, scale.people),
        )


_ROOMS: Final = ("id", "kind", "name", "description", "owner_id", "user_low", "user_high")


def _rooms(scale: Scale, chance: random.Random, english: Words, french: Words) -> Iterator[tuple[Any, ...]]:
    names = [english.phrases(500, 1, 3), french.phrases(500, 1, 3)]
    for n in range(HUGE, scale.rooms + 2):
        name = "everybody" if n == HUGE else f"{chance.choice(names[n % 2])[:38]} {n}"
        about = chance.choice(names[n % 2])
        yield (
            n,
            "private" if n % 5 == 0 else "public",
            name,
            about,
            chance.randint(1, scale.people),
            None,
            None,
        )
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < scale.conversations:
        one = 1 + len(pairs) % max(50, scale.people // 50)  # the same people write many letters
        other = chance.randint(1, scale.people)
        if one != other:
            pairs.add((min(one, other), max(one, other)))
    for n, (low, high) in enumerate(sorted(pairs), scale.rooms + 2):
        yield n, "direct", None, None, None, low, high


def _members(scale: Scale, chance: random.Random) -> Iterator[tuple[int, int]]:
    seen: set[tuple[int, int]] = set()

    def join(room: int, person: int) -> Iterator[tuple[int, int]]:
        if (room, person) not in seen:
            seen.add((room, person))
            yield room, person

    for person in range(1, scale.people + 1, 2):
        yield from join(HUGE, person)
    # Persons 1 to 20 are in 150 rooms each, everybody else in few.
    for person in range(1, 21):
        for room in chance.sample(range(3, scale.rooms + 2), min(150, scale.rooms - 2)):
            yield from join(room, person)
    for person in range(21, scale.people + 1):
        for _ in range(chance.choice((0, 1, 2, 3, 8))):
            yield from join(chance.randint(3, scale.rooms + 1), person)


def _follows(scale: Scale, chance: random.Random) -> Iterator[tuple[int, int]]:
    for person in range(1, scale.people + 1):
        for other in {1 + int(chance.paretovariate(0.5)) % scale.people for _ in range(5)} - {person}:
            yield person, other


_TRACKS: Final = (
    "id", "owner_id", "name", "title", "artist", "album", "genre", "description", "tags", "is_public", "status",
    "extension", "content_type", "size", "play_count", "like_count", "created_at",
)  # fmt: skip
_GENRES: Final = ("Rock", "Jazz", "Électro", "Chanson française", "Hip hop", "Métal", "Folk", "Classical")


def _tracks(scale: Scale, chance: random.Random, english: Words, french: Words) -> Iterator[tuple[Any, ...]]:
    titles = english.phrases(20_000, 1, 5) + french.phrases(20_000, 1, 5)
    texts = english.phrases(5000, 5, 30) + french.phrases(5000, 5, 30)
    tags = [word for word in english.all[60:400] + french.all[60:400] if len(word) > 2 and word.isalpha()]
    for n in range(1, scale.people + 1):
        plays = int(chance.paretovariate(0.7))
        yield (
            n,
            1 + int(chance.paretovariate(0.4)) % scale.people,
            f"track-{n}",
            chance.choice(titles)[:200],
            f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}",
            chance.choice(titles)[:200] if n % 3 == 0 else None,
            chance.choice(_GENRES) if n % 4 else None,
            chance.choice(texts) if n % 2 else None,
            "{" + ",".join(sorted(set(chance.choices(tags, k=chance.randint(0, 5))))) + "}",
            n % 10 != 0,
            "ready" if n % 20 else "processing",
            "mp3",
            "audio/mpeg",
            1000,
            min(plays, 10_000_000),
            min(plays // 10, 1_000_000),
            _day(n, scale.people),
        )


_LISTINGS: Final = (
    "id", "owner_id", "title", "description", "category_id", "state", "price_cents", "exchange_for", "location",
    "status", "favorite_count", "created_at",
)  # fmt: skip
_PLACES: Final = (
    "Paris",
    "Lyon",
    "Orléans",
    "Besançon",
    "Genève",
    "London",
    "Leeds",
    "Montréal",
    "Saint-Étienne",
)


def _listings(
    scale: Scale, chance: random.Random, english: Words, french: Words
) -> Iterator[tuple[Any, ...]]:
    titles = english.phrases(20_000, 2, 6) + french.phrases(20_000, 2, 6)
    texts = english.phrases(5000, 10, 60) + french.phrases(5000, 10, 60)
    for n in range(1, scale.people + 1):
        yield (
            n,
            1 + int(chance.paretovariate(0.4)) % scale.people,
            f"{chance.choice(titles)} no {n % 97}"[:100],
            chance.choice(texts)[:5000],
            1 + int(chance.paretovariate(0.8)) % 16,
            chance.choice(("new", "like_new", "good", "fair", "poor")),
            chance.randint(500, 300_000) if n % 7 else None,
            chance.choice(titles) if n % 7 == 0 else None,
            chance.choice(_PLACES) if n % 3 else None,
            chance.choices(("open", "sold", "closed", "removed"), (70, 20, 7, 3))[0],
            int(chance.paretovariate(0.9)) % 500,
            _day(n, scale.people),
        )


_OFFERS: Final = (
    "id", "listing_id", "buyer_id", "seller_id", "amount_cents", "currency", "status", "expires_at", "created_at",
)  # fmt: skip


def _offers(scale: Scale, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    for n in range(1, scale.people + 1):
        buyer = 1 + int(chance.paretovariate(0.4)) % scale.people
        seller = 1 + (buyer + chance.randint(1, 50)) % scale.people
        state = chance.choice(("accepted", "rejected", "withdrawn", "expired"))
        day = _day(n, scale.people)
        yield (
            n,
            n,
            buyer,
            seller,
            chance.randint(100, 100_000),
            "EUR",
            "pending" if n % 50 == 0 else state,
            day,
            day,
        )


_NOTIFICATIONS: Final = ("user_id", "kind", "key", "actor_id", "data", "created_at", "read_at", "told_at")


def _notifications(scale: Scale, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    for n in range(1, scale.people * 2 + 1):
        person = 1 + int(chance.paretovariate(0.3)) % scale.people
        day = _day(n, scale.people * 2)
        read = day if chance.random() < 0.8 else None
        kind = chance.choice(("follow", "like", "comment"))
        yield person, kind, f"n:{n}", chance.randint(1, scale.people), "{}", day, read, day


_MESSAGES: Final = ("id", "room_id", "seq", "user_id", "nonce", "content", "created_at", "deleted_at")


def _messages(
    scale: Scale, chance: random.Random, english: Words, french: Words
) -> Iterator[tuple[Any, ...]]:
    """In the order in which they were said, all over the rooms; a fifth of them in the huge one."""
    pieces = [english.phrases(150_000, 2, 8), french.phrases(150_000, 2, 8)]
    letters = scale.conversations
    sizes = [0.0, 0.0] + [1 / (rank + 20) for rank in range(scale.rooms)]
    total = sum(sizes)
    sizes[HUGE] = total * 0.25
    sizes += [total * 0.02 / letters] * letters
    sums = list(itertools.accumulate(sizes[1:]))
    places = range(1, len(sizes))
    numbers = [0] * len(sizes)
    n = 0
    while n < scale.messages:
        count = min(50_000, scale.messages - n)
        rooms = chance.choices(places, cum_weights=sums, k=count)
        people = chance.choices(range(1, scale.people + 1), k=count)
        picks = chance.choices(range(150_000), k=count * 2)
        rolls = chance.choices(range(100), k=count)
        day = _day(n, scale.messages)
        for at in range(count):
            n += 1
            room, roll = rooms[at], rolls[at]
            numbers[room] += 1
            # A room speaks one language, one in eight both, and so does the huge one.
            language = pieces[roll % 2] if room % 8 == 0 or room == HUGE else pieces[room % 2]
            text = language[picks[2 * at]]
            if roll > 30:
                text += " " + language[picks[2 * at + 1]]
            gone = roll == 99
            yield n, room, numbers[room], people[at], n, None if gone else text, day, day if gone else None


def _day(n: int, of: int) -> str:
    """The moment of the n-th of so many rows: three years of them, in order."""
    return f"{2023 + n * 3 // (of + 1)}-{1 + (n * 36 // (of + 1)) % 12:02}-{1 + (n * 1000 // (of + 1)) % 28:02} 12:00Z"
