"""What is for sale in the demonstration, drawn."""

import math
from collections.abc import Callable
from typing import Final

from veza.commands.demo.canvas import Canvas, Points, smooth


def _neck(c: Canvas, x: float, top: float, bottom: float, strings: int, wood: str, head: str) -> None:
    half = 1.9 if strings == 6 else 2.1
    c.box(x - half, top, 2 * half, bottom - top, wood)
    for fret in range(1, 15):
        y = top + (bottom - top) * 1.15 * (1 - 2 ** (-fret / 12))
        if y < bottom:
            c.line([(x - half, y), (x + half, y)], "#d8d2c4", 0.18)
        if fret in (3, 5, 7, 9) and y < bottom:
            c.oval(x, y - 1.2, 0.5, 0.5, "#efe9dd")
    c.shape([(x - half, top), (x + half, top), (x + half + 1.4, top - 11), (x - half - 1.4, top - 11)], head)
    for peg in range(strings):
        side = -1 if peg % 2 else 1
        c.oval(x + side * (half + 2), top - 3 - peg // 2 * 3, 0.9, 0.7, "#c9c3b5", "#77705f", 0.15)


def _strings(c: Canvas, x: float, top: float, bottom: float, count: int) -> None:
    for i in range(count):
        off = (i - (count - 1) / 2) * (3.0 / count)
        c.line([(x + off, top), (x + off * 1.15, bottom)], "#e9e4d6", 0.13)


def acoustic_guitar() -> bytes:
    c = Canvas("#d9c9b0", "#8a6a4c", (68, 92, 26, 4))
    marks = [(38, 12), (41, 18), (49, 19), (56, 13.5), (61, 14), (68, 22), (77, 25), (86, 22), (91, 13)]
    c.shape(_outline(66, marks), "#c98f4e", "#5a341a", 1.1)
    c.oval(66, 56, 6.6, 6.6, "#2a1a10", "#f0dcae", 0.9)
    c.oval(66, 56, 7.9, 7.9, None, "#5a341a", 0.25)
    c.shape([(72, 58), (80, 62), (77, 74), (71, 70), (70, 63)], "#5b2417")
    c.box(58.5, 75, 15, 2.6, "#3a2114", 1)
    _neck(c, 66, 14, 51, 6, "#3b2416", "#7a4a25")
    _strings(c, 66, 12, 76, 6)
    return c.jpeg()


def _outline(x: float, marks: Points) -> Points:
    """A body about a middle: (height, half its width), mirrored and made smooth."""
    return smooth([(x + w, y) for y, w in marks] + [(x - w, y) for y, w in reversed(marks)])


def electric_guitar() -> bytes:
    c = Canvas("#2f3d4c", "#1f2227", (68, 92, 24, 4))
    body = [
        (50, 52),
        (47, 44),
        (51, 40),
        (57, 48),
        (62, 53),
        (70, 53),
        (75, 46),
        (82, 43),
        (84, 49),
        (80, 58),
        (79, 66),
        (85, 76),
        (83, 87),
        (72, 92),
        (58, 92),
        (49, 86),
        (48, 76),
        (54, 66),
        (54, 58),
    ]
    c.shape(smooth(body), "#b3202c", "#5c0d14", 0.8)
    c.shape(
        smooth(
            [
                (54, 52),
                (60, 56),
                (70, 56),
                (76, 52),
                (75, 64),
                (80, 74),
                (76, 84),
                (68, 78),
                (58, 80),
                (57, 66),
            ]
        ),
        "#f3ead7",
        "#b8ab8f",
        0.3,
    )
    for y in (60, 67, 74):
        c.box(61, y, 10, 2.6, "#17171a", 1.2)
    c.box(60, 81, 12, 3, "#c8ccd0", 0.6)
    c.knob(77, 76, 1.5, -60, "#f3ead7", "#333333")
    c.knob(79, 81, 1.5, -20, "#f3ead7", "#333333")
    _neck(c, 66, 15, 57, 6, "#caa26b", "#c89b62")
    _strings(c, 66, 13, 82, 6)
    return c.jpeg()


def bass_guitar() -> bytes:
    c = Canvas("#c7d2cf", "#7d8b86", (68, 93, 25, 4))
    body = [
        (48, 56),
        (45, 46),
        (50, 43),
        (58, 53),
        (68, 55),
        (74, 48),
        (82, 47),
        (83, 54),
        (79, 62),
        (80, 70),
        (86, 80),
        (82, 90),
        (70, 94),
        (56, 93),
        (48, 86),
        (49, 76),
        (53, 66),
    ]
    c.shape(smooth(body), "#3c2a1c", "#1a110b", 0.7)
    c.shape(
        smooth(
            [
                (49, 57),
                (50, 52),
                (58, 59),
                (68, 61),
                (75, 56),
                (76, 66),
                (80, 80),
                (74, 82),
                (66, 74),
                (56, 78),
                (54, 68),
            ]
        ),
        "#8b1f1f",
    )
    c.box(59, 66, 14, 3.4, "#101012", 0.6)
    c.box(59, 73, 14, 3.4, "#101012", 0.6)
    c.box(60, 83, 12, 4, "#d6d9dc", 0.4)
    for i in range(3):
        c.knob(76 + i * 1.3, 75 + i * 4, 1.5, -90 + 40 * i, "#d6d9dc", "#222222")
    _neck(c, 66, 13, 60, 4, "#4a2f1c", "#4a2f1c")
    _strings(c, 66, 11, 84, 4)
    return c.jpeg()


def snare_drum() -> bytes:
    c = Canvas("#bcb2a2", "#4d4038", (67, 84, 34, 6))
    c.box(35, 42, 64, 32, "#a9742f")
    c.oval(67, 74, 32, 9, "#8a5c22")
    for i in range(8):
        x = 38 + i * 8.2
        c.box(x, 47, 1.6, 24, "#d9dde0", 0.8)
        c.oval(x + 0.8, 59, 1.5, 2.2, "#eef1f3", "#8d959b", 0.2)
    c.oval(67, 42, 33, 10, "#cfd4d8", "#7e868c", 0.5)
    c.oval(67, 41.4, 30.5, 8.6, "#f5f1e8", "#d8d1c2", 0.4)
    c.oval(67, 41.8, 9, 2.4, "#e6dfd0")
    c.line([(24, 22), (86, 44)], "#d7a866", 1.7)
    c.oval(86.5, 44.2, 1.9, 1.3, "#d7a866")
    c.line([(112, 20), (54, 41)], "#cd9c58", 1.7)
    c.oval(53.5, 41.2, 1.9, 1.3, "#cd9c58")
    return c.jpeg()


def synthesizer() -> bytes:
    c = Canvas("#3d3357", "#231d33", (67, 80, 50, 5))
    c.box(18, 34, 98, 44, "#26262b", 2, "#0d0d10", 0.6)
    c.box(15.5, 33, 4, 46, "#8a5a33", 1)
    c.box(114.5, 33, 4, 46, "#8a5a33", 1)
    for row in range(2):
        for i in range(11):
            c.knob(25 + i * 6.4, 41 + row * 8, 2.1, -220 + (i * 53 + row * 91) % 260)
    c.box(97, 38, 14, 8, "#0f2b24", 0.6, "#3a3a42", 0.3)
    c.line([(98.5 + i * 0.6, 42 - 2.4 * math.sin(i * 0.62)) for i in range(19)], "#63f0b6", 0.35)
    for i in range(4):
        c.box(97 + i * 3.7, 49, 2.6, 2.2, ("#e8503a", "#f2b441", "#e8e4da", "#5cc8d8")[i], 0.4)
    _keyboard(c, 21, 56, 92, 19, 22)
    return c.jpeg()


def _keyboard(c: Canvas, x: float, y: float, width: float, height: float, keys: int) -> None:
    one = width / keys
    for i in range(keys):
        c.box(x + i * one, y, one - 0.25, height, "#f7f4ec", 0.5)
    for i in range(keys - 1):
        if i % 7 not in (2, 6):
            c.box(x + (i + 0.68) * one, y, one * 0.62, height * 0.6, "#141416", 0.3)


def piano() -> bytes:
    c = Canvas("#e4ddd0", "#9b7b58", (67, 90, 46, 5))
    c.box(26, 20, 82, 34, "#3b2013", 1, "#241208", 0.5)
    c.box(30, 24, 35, 24, "#472819", 0.6, "#2a160c", 0.3)
    c.box(69, 24, 35, 24, "#472819", 0.6, "#2a160c", 0.3)
    c.box(54, 33, 26, 16, "#f6f1e4", 0.3)
    for i in range(3):
        for j in range(5):
            c.line([(56, 36 + i * 4.4 + j * 0.6), (78, 36 + i * 4.4 + j * 0.6)], "#8d8778", 0.1)
    c.box(23, 53, 88, 4, "#4d2b19", 0.6)
    _keyboard(c, 26, 57, 82, 7, 36)
    c.box(23, 64, 88, 5, "#3b2013", 0.6)
    c.box(28, 69, 78, 20, "#331a0f")
    c.box(25, 69, 4, 21, "#4d2b19", 0.6)
    c.box(105, 69, 4, 21, "#4d2b19", 0.6)
    for i in range(2):
        c.box(63 + i * 5, 85, 3, 3, "#d3a94c", 0.6)
    return c.jpeg()


def violin() -> bytes:
    c = Canvas("#a8b7a0", "#5f6d58", (66, 93, 20, 3.5))
    marks = [
        (44, 6),
        (47, 11),
        (54, 12),
        (59, 9.5),
        (61, 6),
        (66, 6),
        (68, 10),
        (76, 14.5),
        (85, 13.5),
        (91, 7),
    ]
    c.shape(_outline(66, marks), "#a5501d", "#4a1f0a", 0.9)
    for side in (-1, 1):
        c.line(
            [(66 + side * (5 + 1.2 * math.sin(i / 3.2)), 62 + i * 0.95) for i in range(13)], "#200d05", 0.5
        )
    c.shape([(64.4, 20), (67.6, 20), (68.6, 66), (63.4, 66)], "#19100b")
    c.shape([(63.6, 76), (68.4, 76), (67.4, 89), (64.6, 89)], "#19100b")
    c.box(61, 70.4, 10, 1.6, "#e0b878", 0.4)
    c.oval(66, 14, 2.6, 2.6, "#8a4014", "#4a1f0a", 0.4)
    c.oval(66, 14, 1, 1, "#4a1f0a")
    for i in range(4):
        c.line([(66 + (-4 if i % 2 else 4), 17 + i * 0.9), (66, 17 + i * 0.9)], "#19100b", 0.7)
        c.line([(65 + i * 0.65, 18), (64.2 + i * 1.2, 77)], "#eee8da", 0.14)
    c.line([(92, 14), (104, 90)], "#7a4a22", 0.9)
    c.line([(94.4, 15), (105.6, 89)], "#f4efe2", 0.4)
    return c.jpeg()


def amplifier() -> bytes:
    c = Canvas("#c9b48e", "#5a4632", (67, 90, 38, 5))
    c.box(34, 20, 66, 68, "#27221d", 3, "#0f0d0b", 0.7)
    c.box(38, 34, 58, 50, "#b59d6b", 1, "#6e5d3a", 0.5)
    for i in range(28):
        c.line([(38 + i * 2.08, 34.5), (38 + i * 2.08, 83.5)], "#9c8557", 0.2)
        if i < 24:
            c.line([(38.5, 34.5 + i * 2.08), (95.5, 34.5 + i * 2.08)], "#c7b180", 0.15)
    c.oval(67, 59, 21, 21, None, "#8d774b", 0.5)
    c.box(38, 24, 58, 7.4, "#d8cfbb", 0.6)
    for i in range(7):
        c.knob(44 + i * 6.6, 27.7, 2, -200 + (i * 67) % 240)
    c.oval(92, 27.7, 1.3, 1.3, "#e5372b")
    c.box(57, 16.5, 20, 3, "#3a332c", 1.4)
    c.box(41, 77, 13, 4, "#efe7d4", 0.5)
    return c.jpeg()


def pedal() -> bytes:
    c = Canvas("#8fa6b8", "#44525e", (67, 90, 26, 5))
    c.box(46, 16, 42, 72, "#e08b1f", 3, "#8f540c", 0.7)
    c.box(50, 20, 34, 30, "#f3b352", 2)
    for i, way in enumerate((-140, -60, -200)):
        c.knob(56.5 + i * 10.5, 30, 4, way)
    c.box(57, 41, 20, 5, "#5a3205", 1)
    c.oval(67, 56, 1.6, 1.6, "#ff3b30", "#7a1010", 0.3)
    c.oval(67, 73, 7.4, 7.4, "#b9bec2", "#6b7176", 0.7)
    c.oval(67, 73, 4.6, 4.6, "#e3e7ea", "#9aa1a6", 0.4)
    for x in (41, 88):
        c.box(x, 34, 5, 8, "#9aa1a6", 1)
    c.line([(93, 38), (104, 38), (112, 50), (112, 100)], "#1b1b1d", 1.8)
    return c.jpeg()


def microphone() -> bytes:
    c = Canvas("#4a2733", "#241218", (67, 92, 20, 3.6))
    c.line([(67, 60), (67, 90)], "#17171a", 1.6)
    c.oval(67, 91, 15, 2.6, "#1c1c20", "#3d3d44", 0.3)
    c.box(57, 34, 20, 30, "#8f949a", 3, "#4d5258", 0.5)
    c.box(57, 10, 20, 27, "#c6cacf", 9.5, "#6d7278", 0.6)
    for i in range(9):
        c.line([(58 + i * 2.25, 15), (58 + i * 2.25, 34)], "#8b9096", 0.25)
        c.line([(57.6, 14 + i * 2.4), (76.4, 14 + i * 2.4)], "#8b9096", 0.25)
    c.box(56, 34.5, 22, 2.4, "#d8b24a", 0.8)
    c.oval(67, 48, 2.2, 2.2, "#d8b24a", "#7a6120", 0.3)
    c.arc(67, 36, 19, 20, 160, "#2b2b30", 1.1)
    for x in (49, 85):
        c.oval(x, 42, 2, 2, "#2b2b30")
    return c.jpeg()


def turntable() -> bytes:
    c = Canvas("#d2d6da", "#8d949b", (67, 86, 50, 5))
    c.box(20, 22, 94, 62, "#2c2e33", 3, "#121316", 0.7)
    c.oval(58, 53, 28, 28, "#4b4e55", "#9aa0a8", 0.7)
    _disc(c, 58, 53, 26, "#e2572b")
    c.oval(103, 34, 5.5, 5.5, "#5b5f66", "#babfc6", 0.5)
    c.line([(103, 34), (100, 62), (84, 70)], "#d5dade", 1.2)
    c.shape([(86, 67), (81, 70), (82.4, 73), (87.4, 70)], "#111114")
    c.box(104, 56, 4, 20, "#1b1c20", 1)
    c.box(103, 63, 6, 3, "#e9edf0", 0.5)
    c.oval(27, 77, 3.4, 3.4, "#cfd4d9", "#71767c", 0.4)
    return c.jpeg()


def _disc(c: Canvas, x: float, y: float, r: float, label: str) -> None:
    c.oval(x, y, r, r, "#121214")
    for i in range(9):
        c.oval(x, y, r * (0.42 + i * 0.063), r * (0.42 + i * 0.063), None, "#26262b", 0.15)
    for start in (200, 20):
        c.arc(x, y, r * 0.8, start, start + 26, "#4a4a52", r * 0.12)
    c.oval(x, y, r * 0.35, r * 0.35, label)
    c.oval(x, y, r * 0.24, r * 0.24, None, "#fff3dd", 0.3)
    c.oval(x, y, r * 0.04, r * 0.04, "#f4efe6")


def records() -> bytes:
    c = Canvas("#e9d8c6", "#a07f5f", (66, 88, 48, 4))
    for i, colour in enumerate(("#264653", "#e9c46a", "#7b2d43", "#2a9d8f")):
        c.box(20 + i * 5, 24 - i * 2, 54, 60 + i * 2, colour, 0.6, "#00000055", 0.3)
    _disc(c, 84, 54, 28, "#e76f51")
    c.box(35, 18, 54, 68, "#f4a261", 0.6, "#9a5b25", 0.4)
    c.oval(62, 46, 17, 17, "#e63946")
    c.shape([(35, 64), (50, 48), (62, 62), (74, 44), (89, 66), (89, 86), (35, 86)], "#1d3557")
    for i in range(4):
        c.box(40, 75 + i * 2.4, 30 - i * 5, 1, "#f1faee")
    return c.jpeg()


def score() -> bytes:
    c = Canvas("#c9c3d8", "#77708c", (67, 90, 42, 4))
    for x, lean in ((28, "#fbf7ec"), (67, "#f3eddd")):
        c.box(x, 16, 39, 72, lean, 0.6, "#b7ac92", 0.3)
    for page in (28, 67):
        for row in range(6):
            y = 24 + row * 10.4
            for j in range(5):
                c.line([(page + 3, y + j * 1.2), (page + 36, y + j * 1.2)], "#5b5547", 0.12)
            for note in range(7):
                at = page + 7 + note * 4.2
                high = (note * 5 + row * 3 + page) % 9 * 0.6
                c.oval(at, y + high, 0.95, 0.72, "#1d1a14")
                c.line([(at + 0.85, y + high), (at + 0.85, y + high - 4)], "#1d1a14", 0.2)
    c.line([(67, 16), (67, 88)], "#b7ac92", 0.6)
    c.line([(96, 20), (113, 84)], "#e9b23b", 1.8)
    c.shape([(112, 82), (114.4, 81.4), (114, 87)], "#2b2118")
    return c.jpeg()


LISTED: Final[dict[str, Callable[[], bytes]]] = {
    "acoustic_guitar": acoustic_guitar,
    "electric_guitar": electric_guitar,
    "bass_guitar": bass_guitar,
    "snare_drum": snare_drum,
    "synthesizer": synthesizer,
    "piano": piano,
    "violin": violin,
    "amplifier": amplifier,
    "pedal": pedal,
    "microphone": microphone,
    "turntable": turntable,
    "records": records,
    "score": score,
}
