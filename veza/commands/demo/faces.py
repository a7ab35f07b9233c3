"""What the people of the demonstration look like."""

import io
import math
from collections.abc import Sequence

import msgspec
from PIL import ImageColor

from veza.commands.demo.canvas import Canvas, Points

SIDE = 288  # pixels


class Looks(msgspec.Struct, frozen=True):
    """What a face is made of: colours; `hair_is` long, curls, bun, short or none; `wears` glasses, beard, cap."""

    skin: str
    hair: str
    shirt: str
    wall: str
    hair_is: str = "short"
    wears: tuple[str, ...] = ()


def _darker(colour: str) -> tuple[int, ...]:
    return tuple(value * 3 // 4 for value in ImageColor.getrgb(colour)[:3])


def face(looks: Looks) -> bytes:
    """A portrait, square, as PNG."""
    c = Canvas(looks.wall, height=SIDE * 2)
    x, has = 66.0, {looks.hair_is, *looks.wears}
    c.oval(x, 108, 40, 34, looks.shirt)
    if "long" in has:
        c.box(x - 25, 26, 50, 58, looks.hair, 24)
    if "curls" in has:
        c.shape(_blob(x, 40, [31, 28] * 9), looks.hair)
    if "bun" in has:
        c.oval(x, 11, 10, 9, looks.hair)
    c.box(x - 8, 60, 16, 20, looks.skin, 6)
    c.oval(x, 45, 20, 24, looks.skin)
    for side in (-1, 1):
        c.oval(x + side * 20, 46, 3.4, 5, looks.skin)
    if "none" not in has:
        c.shape(
            [
                (px, min(py, 36 + abs(px - x) * 0.28))
                for px, py in _blob(x, 40, [22.5, 20, 20, 20, 22.5, 25, 25, 25])
            ],
            looks.hair,
        )
    if "beard" in has:
        c.shape(
            [(px, max(py, 53)) for px, py in _blob(x, 50, [20.5, 21, 22, 21, 20.5, 15, 14, 15])], looks.hair
        )
        c.oval(x, 59, 6, 3, looks.skin)
    if "cap" in has:
        c.shape([(px, min(py, 31)) for px, py in _blob(x, 38, [23, 23, 24, 24, 23, 25, 27, 25])], looks.shirt)
        c.box(x - 2, 28, 32, 4.4, looks.shirt, 2)
    for side in (-1, 1):
        c.oval(x + side * 7.6, 45, 2.3, 2.5, "#231b16")
        c.oval(x + side * 7.6 + 0.8, 44.2, 0.7, 0.7, "#ffffff")
        c.line(
            [(x + side * 4.6, 39.6), (x + side * 11, 39 + (0.6 if "beard" in has else 0))],
            looks.hair if "none" not in has else "#5a4a3c",
            1,
        )
        if "glasses" in has:
            c.oval(x + side * 7.6, 45.2, 5.6, 5.2, None, "#22262b", 0.8)
    if "glasses" in has:
        c.line([(x - 2.2, 44.6), (x + 2.2, 44.6)], "#22262b", 0.8)
    c.line([(x, 46), (x + 1.6, 52), (x - 0.6, 52.6)], _darker(looks.skin), 0.7)
    c.arc(x, 54, 6.4, 30, 150, "#7a2f2a", 1.1)
    out = io.BytesIO()
    drawn = c.image.reduce(2)
    left = (drawn.width - SIDE) // 2
    square = drawn.crop((left, 0, left + SIDE, SIDE))
    square.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _blob(x: float, y: float, radii: Sequence[float]) -> Points:
    """A closed curve about a point, through distances given all around, smooth between them."""
    count, points = len(radii), []
    for i in range(180):
        at = i / 180 * count
        whole, part = int(at), at % 1
        smooth = (1 - math.cos(part * math.pi)) / 2
        radius = radii[whole % count] * (1 - smooth) + radii[(whole + 1) % count] * smooth
        way = i / 180 * 2 * math.pi
        points.append((x + radius * math.cos(way), y + radius * math.sin(way)))
    return points
