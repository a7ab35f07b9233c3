"""The music of the demonstration, written down: six short pieces of different kinds.

Everything is drawn from seeds, so that the same pieces come out everywhere.
"""

import random
from collections.abc import Callable
from typing import Final

import msgspec

from veza.commands.demo.instruments import Sheet, hat, kick, piano, snare, string, tom, wave

_ORGAN: Final = (1.0, 0.6, 0.3, 0.4, 0.1, 0.15)
_REED: Final = (1.0, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15)
_ROUND: Final = (1.0, 0.35, 0.1)


class Piece(msgspec.Struct, frozen=True):
    """A piece and what is said of it. `play(bars)` writes that many bars of it down; `echo` is FFmpeg's `aecho`,
    `loud` how far its loudest moment goes beyond full scale, where a limiter takes what is too much."""

    name: str  # of its file
    kind: str  # its file's: mp3, flac or ogg
    by: str
    title: str
    artist: str
    genre: str
    tags: tuple[str, ...]
    description: str
    bars: int
    play: Callable[[int], Sheet]
    echo: str = "0.8:0.8:37|61|89:0.22|0.16|0.1"
    loud: float = 2.4


def morning(bars: int) -> Sheet:
    """A guitar, picked: eight quavers a bar over four chords."""
    sheet = Sheet(104, 4 * bars, 1.2)
    chords = ((45, 52, 57, 60, 64), (41, 53, 57, 60, 65), (48, 52, 55, 60, 64), (43, 50, 55, 59, 62))
    tune = (76, 74, 72, 71, 72, 69, 67, 69)
    for bar in range(bars):
        low, *high = chords[bar % 4]
        sheet.put(4 * bar, string(low, 2.2, 0.4))
        sheet.put(4 * bar + 2, string(low, 1.2, 0.3, 0.7))
        for quaver, which in enumerate((0, 2, 1, 3, 2, 1, 3, 2)):
            sheet.put(4 * bar + quaver / 2, string(high[which % len(high)], 0.9, 0.6, 0.55))
        if bar >= 4:
            sheet.put(4 * bar + 0.5, string(tune[bar % 8], 1.4, 0.9, 0.8))
            sheet.put(4 * bar + 3, string(tune[bar % 8] - 5, 0.9, 0.9, 0.6))
    return sheet


def night_train(bars: int) -> Sheet:
    """Slow drums that drag a little, an electric piano, a bass."""
    sheet = Sheet(78, 4 * bars, 0.8)
    chords = ((50, 57, 60, 64, 65), (55, 59, 62, 65, 69), (48, 55, 59, 62, 64), (45, 55, 60, 64, 67))
    chance = random.Random(78)
    for bar in range(bars):
        at, (low, *high) = 4 * bar, chords[bar % 4]
        for start in (0, 2.6):
            for late, pitch in enumerate(high):
                sheet.put(at + start + late * 0.02, piano(pitch, 1.2, 0.26))
        sheet.put(at, wave(low - 12, 0.9, _ROUND, 0.01, 2.0, 0.5))
        sheet.put(at + 2.5, wave(low - 12, 0.5, _ROUND, 0.01, 3.0, 0.45))
        if bar >= 1:
            for beat in (0, 1.66, 2.5):
                sheet.put(at + beat, kick(0.75))
            for beat in (1.02, 3.02):
                sheet.put(at + beat, snare(0.38))
            for beat in range(4):
                sheet.put(at + beat, hat(0.12))
                sheet.put(at + beat + 0.62, hat(0.07))
        if bar % 2 and bar >= 2:
            for beat in (0.5, 1.0, 1.5, 2.5):
                sheet.put(at + beat, piano(chance.choice((76, 74, 72, 69)), 0.8, 0.3))
    return sheet


def basalt(bars: int) -> Sheet:
    """No beat: chords that come and go, and drops above them."""
    sheet = Sheet(60, 5 * bars, 2.0)
    chance = random.Random(7)
    chords = ((38, 50, 57, 62), (34, 50, 53, 58), (41, 48, 57, 60), (36, 48, 55, 64))
    for bar in range(bars):
        for pitch in chords[bar % 4]:
            sheet.put(5 * bar, wave(pitch, 6.5, (1.0, 0.3, 0.2, 0.08), 2.5, 0.0, 0.3))
        for _ in range(3):
            sheet.put(5 * bar + chance.uniform(0, 4.5), piano(chance.choice((74, 77, 81, 84, 86)), 1.8, 0.16))
    return sheet


def four_floors(bars: int) -> Sheet:
    """Four kicks a bar, and what belongs to them."""
    sheet = Sheet(124, 4 * bars, 0.4)
    roots = (41, 41, 44, 39)
    for bar in range(bars):
        at, root = 4 * bar, roots[bar % 4]
        for beat in range(4):
            sheet.put(at + beat, kick())
            sheet.put(at + beat + 0.5, hat(0.2, 0.12))
            if bar >= 2:
                sheet.put(at + beat + 0.25, hat(0.09, 0.04))
                sheet.put(at + beat + 0.75, hat(0.09, 0.04))
            for quaver in (0.25, 0.5, 0.75):
                sheet.put(at + beat + quaver, wave(root - 12, 0.11, _REED, 0.004, 6.0, 0.32))
        if bar >= 2:
            for beat in (1, 3):
                sheet.put(at + beat, snare(0.3))
        if bar >= 4:
            for stab in (0.75, 1.5, 2.75):
                for pitch in (root + 12, root + 15, root + 19, root + 22):
                    sheet.put(at + stab, wave(pitch, 0.16, _ORGAN, 0.004, 9.0, 0.16))
    return sheet


def little_waltz(bars: int) -> Sheet:
    """Three beats a bar on an accordion that breathes."""
    sheet = Sheet(152, 3 * bars, 0.8)
    chords = (
        (50, 65, 69),
        (45, 64, 67),
        (45, 64, 69),
        (50, 65, 69),
        (43, 62, 67),
        (50, 65, 69),
        (45, 61, 67),
        (50, 62, 65),
    )
    tune = (
        ((0, 74, 2), (2, 76, 1)), ((0, 77, 2), (2, 76, 1)), ((0, 73, 3),), ((0, 74, 1), (1, 77, 1), (2, 81, 1)),
        ((0, 79, 2), (2, 77, 1)), ((0, 77, 1), (1, 76, 1), (2, 74, 1)), ((0, 76, 2), (2, 73, 1)), ((0, 74, 3),),
    )  # fmt: skip
    for bar in range(bars):
        at, (low, *high) = 3 * bar, chords[bar % 8]
        sheet.put(at, wave(low - 12, 0.34, _ROUND, 0.01, 2.0, 0.5))
        for beat in (1, 2):
            for pitch in high:
                sheet.put(at + beat, wave(pitch, 0.17, _REED, 0.015, 3.0, 0.16))
        for beat, pitch, beats in tune[bar % 8]:
            long = sheet.seconds(beats * 0.95)
            sheet.put(at + beat, wave(pitch, long, _REED, 0.03, 0.4, 0.22))
            sheet.put(at + beat, wave(pitch + 0.12, long, _REED, 0.03, 0.4, 0.18))  # a reed a little too high
    return sheet


def sketch_for_drums(bars: int) -> Sheet:
    """Drums alone: a figure that is never quite the same."""
    sheet = Sheet(108, 4 * bars, 0.5)
    chance = random.Random(21)
    for bar in range(bars):
        at = 4 * bar
        for step in range(16):
            beat = at + step / 4
            if step in (0, 6, 10) or chance.random() < 0.06:
                sheet.put(beat, kick(0.8))
            if step in (4, 12):
                sheet.put(beat, snare(0.5))
            elif chance.random() < 0.12:
                sheet.put(beat, snare(0.14))
            if step % 2 == 0 or chance.random() < 0.3:
                sheet.put(beat, hat(0.14 if step % 4 == 0 else 0.09))
        if bar % 4 == 3:
            for step, pitch in enumerate((50, 50, 47, 47, 43, 43, 38, 38)):
                sheet.put(at + 2 + step / 4, tom(pitch, 0.6))
    return sheet


PIECES: Final = (
    Piece(
        "late-train", "mp3", "malik_b", "Late Train", "Malik B", "Lo-fi", ("lofi", "beats", "night"),
        "Recorded after the last RER. Electric piano, a tired drum machine, one bass note too many.", 7, night_train,
    ),
    Piece(
        "matin-a-belleville", "flac", "lea_moreau", "Matin à Belleville", "Léa Moreau", "Folk",
        ("acoustic", "guitar", "fingerstyle"),
        "Une prise, une guitare, la fenêtre ouverte. Accordage standard, capo nulle part.", 9, morning,
    ),
    Piece(
        "basalte", "ogg", "ines_k", "Basalte", "Inès K.", "Ambient", ("ambient", "drone", "modular"),
        "For the long drive to the coast. Best with headphones and no plans.", 4, basalt,
        "0.8:0.85:230|390|610:0.4|0.3|0.2", 1.1,
    ),
    Piece(
        "four-floors", "mp3", "nadia_v", "Four Floors", "Nadia V", "House", ("house", "club", "124bpm"),
        "The lift was broken, so I counted the stairs.", 11, four_floors, "0.9:0.9:30:0.12",
    ),
    Piece(
        "petite-valse", "ogg", "gaspard_r", "Petite valse du dimanche", "Gaspard R.", "Chanson",
        ("accordion", "waltz", "acoustic"),
        "Écrite pour les 80 ans de ma grand-mère, qui dansait encore à minuit.", 16, little_waltz,
    ),
    Piece(
        "sketch-for-drums", "ogg", "tom_weller", "Sketch for Drums No. 3", "Tom Weller", "Percussion",
        ("drums", "practice", "groove"),
        "Practice-room take, two microphones. Steal the groove if you like it.", 8, sketch_for_drums,
        "0.9:0.85:19|31:0.18|0.1",
    ),
)  # fmt: skip
