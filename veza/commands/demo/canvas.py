"""A canvas to draw on, for pictures without photographs.

It counts in hundredths of its height: things are drawn on a field of 133 × 100, twice as large as they are shown,
which makes their edges smooth.
"""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw, ImageFilter

WIDTH, HEIGHT = 720, 540

Points = Sequence[tuple[float, float]]
Colour = str | tuple[int, ...]


class Canvas:
    """A field of 133 × 100 to draw on, with a wall, and perhaps a floor with a soft shadow on it.

    Args:
        shadow: of an oval: its middle, and half its width and height.
        height: pixels that are drawn; twice as many as are shown.
    """

    def __init__(
        self,
        wall: str,
        floor: str | None = None,
        shadow: tuple[float, float, float, float] | None = None,
        *,
        height: int = HEIGHT * 2,
    ) -> None:
        self._scale = height / 100
        # What is behind is soft, so that a small picture of it is enough.
        small = (WIDTH // 4, HEIGHT // 4)
        behind = _gradient(wall, 0.82, small)
        if floor is not None:
            behind.paste(_gradient(floor, 1.18, (small[0], small[1] * 27 // 100)), (0, small[1] * 73 // 100))
        if shadow is not None:
            x, y, rx, ry = (value * small[1] / 100 for value in shadow)
            mask = Image.new("L", small)
            ImageDraw.Draw(mask).ellipse([x - rx, y - ry, x + rx, y + ry], fill=130)
            behind.paste(Image.new("RGB", small, "#15110e"), mask=mask.filter(ImageFilter.GaussianBlur(5)))
        self.image = behind.resize((height * WIDTH // HEIGHT, height), Image.Resampling.BILINEAR)
        self._draw = ImageDraw.Draw(self.image)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: str | None,
        edge: str | None = None,
        pen: float = 0.5,
    ) -> None:
        self._draw.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill, edge, self._pen(pen))

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str,
        round: float = 0,
        edge: str | None = None,
        pen: float = 0.5,
    ) -> None:
        self._draw.rounded_rectangle(
            self._box(x, y, x + w, y + h), round * self._scale, fill, edge, self._pen(pen)
        )

    def shape(self, points: Points, fill: str, edge: str | None = None, pen: float = 0.5) -> None:
        placed = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.polygon(placed, fill)
        if edge is not None:
            self._draw.line([*placed, placed[0]], edge, self._pen(pen), joint="curve")

    def line(self, points: Points, colour: Colour, pen: float = 0.5) -> None:
        self._draw.line(
            [(x * self._scale, y * self._scale) for x, y in points], colour, self._pen(pen), joint="curve"
        )

    def arc(
        self, x: float, y: float, r: float, start: float, end: float, colour: str, pen: float = 0.5
    ) -> None:
        self._draw.arc(self._box(x - r, y - r, x + r, y + r), start, end, colour, self._pen(pen))

    def knob(
        self, x: float, y: float, r: float, turned: float, body: str = "#1d1d20", mark: str = "#f4efe6"
    ) -> None:
        self.oval(x, y, r, r, body, "#00000066", 0.2)
        way = math.radians(turned)
        self.line([(x, y), (x + r * 0.85 * math.cos(way), y + r * 0.85 * math.sin(way))], mark, r / 4)

    def jpeg(self) -> bytes:
        out = io.BytesIO()
        self.image.reduce(2).save(out, "JPEG", quality=86)
        return out.getvalue()

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * self._scale, top * self._scale, right * self._scale, bottom * self._scale

    def _pen(self, pen: float) -> int:
        return max(1, round(pen * self._scale))


def _gradient(colour: str, end: float, size: tuple[int, int]) -> Image.Image:
    """A colour that grows lighter or darker downwards."""
    bright = ImageColor.getrgb(colour)[:3]
    dark = tuple(min(255, int(value * end)) for value in bright)
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, dark), Image.new("RGB", size, bright), mask)


def smooth(points: Points) -> Points:
    """Corners cut twice, after Chaikin."""
    for _ in range(3):
        cut = []
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            cut += [
                (x0 * 0.75 + x1 * 0.25, y0 * 0.75 + y1 * 0.25),
                (x0 * 0.25 + x1 * 0.75, y0 * 0.25 + y1 * 0.75),
            ]
        points = cut
    return points
