"""Makes the renditions of one image: an image on standard input, small WebP images on standard output.

Run as a script by `images.py`, never imported by the server: what decodes a stranger's bytes has its own process, with
little memory and little time, so that a bomb or a crash of a decoder is its end alone. Nothing of the original's
metadata is kept: its orientation is applied, its colours become sRGB, and only pixels go on.

Arguments: `square` or `within`, and the sizes (see `images.Shape`). Output: one line of JSON,
`{"pixels": [width, height], "sizes": [[size, bytes], …]}` with the images behind it, or `{"reason": "…"}`.
"""

import contextlib
import io
import json
import os
import resource
import sys
from typing import Any

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
MEMORY = 1024 * 1024 * 1024  # bytes of address space
SECONDS = 10  # of the processor
DESCRIPTORS = 64
PIXELS = 64_000_000
SIDE = 30_000


class Unusable(Exception):
    """Why there will be no image, as a sentence for people."""


def confine() -> None:
    """Take no more than this from the machine, and write no file.

    It ends soon after the server, however that ends: its input does, and then its seconds do. (PR_SET_PDEATHSIG would
    follow the thread that started it, which may end while it works.)
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # pipes are none
    with contextlib.suppress(OSError, ValueError):  # a stricter limit from outside stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    sys.dont_write_bytecode = True
    with contextlib.suppress(OSError):
        os.nice(10)


def decoded(data: bytes, wanted: int, how: str) -> Any:
    """The image, upright, in sRGB, RGB or RGBA; possibly smaller than it was, but not smaller than `wanted`."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # counted here, with a sentence of our own
    try:
        image: Any = Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, SyntaxError, ValueError) as error:
        raise Unusable("This is no JPEG, PNG, WebP, GIF or AVIF image.") from error
    width, height = image.size
    if width * height > PIXELS or max(width, height) > SIDE:
        raise Unusable(f"This image is too large: {width} × {height} pixels.")
    image.draft("RGB", (2 * wanted, 2 * wanted))  # of a JPEG only as much as is needed
    image.load()
    profile = image.info.get("icc_profile")
    factor = (min if how == "square" else max)(image.size) // (2 * wanted)
    if factor > 1 and image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        exif = image.getexif()
        image = image.reduce(factor)
        image.getexif().update(exif)
    with contextlib.suppress(Exception):  # a broken orientation is none
        image = ImageOps.exif_transpose(image)
    return in_srgb(image, profile)


def in_srgb(image: Any, profile: bytes | None) -> Any:
    if image.mode.startswith(("I", "F")):  # 16 bits a grey
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if profile and image.mode in ("RGB", "CMYK", "L"):
        from PIL import ImageCms

        with contextlib.suppress(Exception):  # a broken profile is none
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            image = converted if converted is not None else image
    return image.convert("RGBA" if transparent else "RGB")


def shaped(image: Any, size: int, how: str) -> Any:
    """The image's middle as a square of this size, or all of it within such a square."""
    from PIL import Image, ImageOps

    if how == "square":
        return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    longest = max(image.size)
    if longest <= size:
        return image
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def renditions(
    data: bytes, sizes: list[int], how: str = "square"
) -> list[tuple[int, tuple[int, int], bytes]]:
    """By size, the largest first: width and height in pixels, and the file. Raises Unusable."""
    try:
        image = decoded(data, max(sizes), how)
        made = []
        for size in sorted(sizes, reverse=True):
            image = shaped(image, size, how)
            image.info.clear()
            file = io.BytesIO()
            image.save(file, "WEBP", quality=86, method=4)
            made.append((size, image.size, file.getvalue()))
    except MemoryError as error:
        raise Unusable("This image is too large.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise Unusable("This image is damaged or cut off.") from error
    return made


def main() -> None:
    confine()
    data = sys.stdin.buffer.read()
    try:
        made = renditions(data, [int(size) for size in sys.argv[2:]], sys.argv[1])
    except Unusable as unusable:
        sys.stdout.write(json.dumps({"reason": str(unusable)}) + "\n")
        return
    header = json.dumps({"pixels": made[0][1], "sizes": [[size, len(image)] for size, _, image in made]})
    sys.stdout.buffer.write(header.encode() + b"\n" + b"".join(image for _, _, image in made))


if __name__ == "__main__":
    main()
