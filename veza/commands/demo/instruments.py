"""Instruments without recordings: each note is computed once, as samples between −1 and 1.

Plain Python is quick enough because nothing is computed twice: a note is asked for by its pitch and length, and what
was made once is kept. Pitches are MIDI numbers (60 is the C in the middle).
"""

import math
import random
from array import array
from functools import cache
from operator import add, mul
from typing import Final, TypeAlias

RATE: Final = 24_000  # samples a second: what is above 12 kHz costs more than it gives
_TABLE: Final = 4096
_SINE: Final = [math.sin(2 * math.pi * i / _TABLE) for i in range(_TABLE)]


Sound: TypeAlias = "array[float]"  # of type code `f`


def hertz(pitch: float) -> float:
    return 440.0 * 2 ** ((pitch - 69) / 12)


def _silence_clicks(sound: list[float], fade: float = 0.012) -> Sound:
    """The end faded out: a sound that stops in the middle of a swing clicks."""
    last = min(len(sound), int(fade * RATE))
    for i in range(1, last + 1):
        sound[-i] *= (i - 1) / last
    return array("f", sound)


@cache
def string(pitch: int, seconds: float, bright: float = 0.5, level: float = 1.0) -> Sound:
    """A plucked string, after Karplus and Strong (Computer Music Journal 7:2, 1983): a burst of noise goes round and
    round, and every round is the mean of neighbours of the last."""
    noise = random.Random(pitch)
    period = max(2, round(RATE / hertz(pitch) - 0.5))
    wave = [noise.uniform(-1, 1) for _ in range(period)]
    for _ in range(round(3 - 3 * bright)):  # a softer finger
        wave = [(a + b) / 2 for a, b in zip(wave, [wave[-1], *wave[:-1]], strict=True)]
    peak = level / max(map(abs, wave))
    wave = [value * peak for value in wave]
    sound: list[float] = []
    keep = 0.5 * 0.9985 ** (period / 100)
    while len(sound) < seconds * RATE:
        sound += wave
        before = wave[-1]
        wave = [keep * (a + b) for a, b in zip(wave, [before, *wave[:-1]], strict=True)]
    return _silence_clicks(sound[: int(seconds * RATE)], 0.04)


@cache
def piano(pitch: int, seconds: float, level: float = 0.5) -> Sound:
    """An electric piano: one sine bends another (frequency modulation), less and less."""
    step, dying = hertz(pitch) * _TABLE / RATE, 2.2 / RATE
    bend = 1.6 * _TABLE / (2 * math.pi)
    exp, sine, last = math.exp, _SINE, _TABLE - 1
    sound = [
        level
        * exp(-i * dying)
        * sine[int(i * step + bend * exp(-i * 6.6e-4) * sine[int(i * step * 2) & last]) & last]
        for i in range(int(seconds * RATE))
    ]
    return _silence_clicks(sound, 0.03)


@cache
def wave(
    pitch: float,
    seconds: float,
    partials: tuple[float, ...],
    attack: float = 0.01,
    decay: float = 0.0,
    level: float = 0.4,
) -> Sound:
    """A held tone of given partials; `attack` in seconds, `decay` a second (0: held). Few periods are computed, as many
    as nearly fill whole samples, and repeated."""
    period = RATE / hertz(pitch)
    cycles = min(range(1, 25), key=lambda count: abs(round(count * period) - count * period) / count)
    length = round(cycles * period)
    loud = level / sum(partials)
    heard = [(n, part) for n, part in enumerate(partials, 1) if n < period / 2]
    table = [
        loud * sum(part * _SINE[i * n * cycles * _TABLE // length & (_TABLE - 1)] for n, part in heard)
        for i in range(length)
    ]
    count = int(seconds * RATE)
    return array("f", map(mul, table * (count // length + 1), _shape(count, attack, decay)))


@cache
def _shape(count: int, attack: float, decay: float) -> list[float]:
    """How loud a tone is while it lasts."""
    gains, factor, gain = [1.0] * count, math.exp(-decay / RATE), 1.0
    if decay:
        for i in range(count):
            gains[i] = gain
            gain *= factor
    rising, fading = min(count, int(attack * RATE)), int(max(0.012, attack) * RATE)
    for i in range(rising):
        gains[i] *= i / rising
    fading = min(fading, count // 2)
    for i in range(fading):
        gains[-1 - i] *= i / fading
    return gains


@cache
def kick(level: float = 0.9) -> Sound:
    sound, phase = [], 0.0
    for i in range(int(0.32 * RATE)):
        phase += (46 + 130 * math.exp(-i / 700)) * _TABLE / RATE
        sound.append(level * math.exp(-i / 1950) * _SINE[int(phase) & (_TABLE - 1)])
    return _silence_clicks(sound)


@cache
def snare(level: float = 0.5) -> Sound:
    noise = random.Random(2)
    step = 190 * _TABLE / RATE
    return _silence_clicks(
        [
            level
            * (
                math.exp(-i / 1300) * noise.uniform(-1, 1)
                + 0.6 * math.exp(-i / 700) * _SINE[int(i * step) & 4095]
            )
            for i in range(int(0.22 * RATE))
        ]
    )


@cache
def hat(level: float = 0.16, seconds: float = 0.06) -> Sound:
    noise, before, sound = random.Random(3), 0.0, []
    for i in range(int(seconds * RATE)):
        now = noise.uniform(-1, 1)
        sound.append(
            level * (now - before) * math.exp(-3 * i / (seconds * RATE))
        )  # the difference: only what is high
        before = now
    return _silence_clicks(sound)


@cache
def tom(pitch: int, level: float = 0.7) -> Sound:
    sound, phase, low = [], 0.0, hertz(pitch)
    for i in range(int(0.4 * RATE)):
        phase += low * (1 + 0.5 * math.exp(-i / 900)) * _TABLE / RATE
        sound.append(level * math.exp(-i / 2400) * _SINE[int(phase) & (_TABLE - 1)])
    return _silence_clicks(sound)


class Sheet:
    """A piece as it is written down: sounds put where they begin, in beats."""

    def __init__(self, bpm: float, beats: float, tail: float = 0.0) -> None:
        self._beat = 60 / bpm * RATE
        self._sound = array("f", bytes(4 * int(beats * self._beat + tail * RATE)))

    def put(self, beat: float, sound: Sound) -> None:
        """Add a sound that begins at `beat`; what goes beyond the end is cut."""
        start = int(beat * self._beat)
        here = self._sound[start : start + len(sound)]
        self._sound[start : start + len(here)] = array("f", map(add, here, sound))

    def seconds(self, beats: float) -> float:
        return beats * self._beat / RATE

    def samples(self) -> tuple[bytes, float]:
        """As 32-bit floats in the machine's order, and the loudest of them."""
        return self._sound.tobytes(), max(max(self._sound), -min(self._sound))
