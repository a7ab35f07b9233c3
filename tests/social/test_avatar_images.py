"""Pictures of people: whatever is sent, small upright squares are kept, and no word about where they were taken."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image, ImageCms

from veza.media import image_child
from veza.media.images import AT_ONCE, AVATAR, NotAnImage, Picture, Pictures

RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 200, 20), (20, 20, 220), (250, 250, 250)
SECRET = b"52.5200N 13.4050E"


def quarters(width: int = 640, height: int = 480, mode: str = "RGB") -> Any:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        left, top = number % 2 * (width // 2), number // 2 * (height // 2)
        image.paste(colour, (left, top, left + width // 2 + 1, top + height // 2 + 1))
    return image.convert(mode)


def saved(image: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(image: Any) -> list[str]:
    """The colours of the four quarters, as names, as a person would say them."""
    size = image.size[0]
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    seen = []
    for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)):
        pixel = image.convert("RGB").getpixel((int(size * x), int(size * y)))
        seen.append(min(names, key=lambda n: sum((a - b) ** 2 for a, b in zip(names[n], pixel, strict=True))))
    return seen


def opened(avatar: Picture) -> list[Any]:
    assert list(avatar.images) == [256, 64]
    images = [Image.open(io.BytesIO(data)) for data in avatar.images.values()]
    for image, size in zip(images, (256, 64), strict=True):
        assert (image.format, image.size) == ("WEBP", (size, size))
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)
    return images


@pytest.fixture
def avatars(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path, AVATAR, trio.CapacityLimiter(AT_ONCE))


IN_A_CHILD = {"JPEG with a place", "large", "6 JPEG 3000", "a bomb", "a liar", "cut off"}


async def make_all(avatars: Pictures, inputs: dict[str, bytes]) -> dict[str, Picture | str]:
    """Some by a child, as the server does; the others by the same code, without starting Python for each."""
    results: dict[str, Picture | str] = {}
    for name, data in inputs.items():
        try:
            if name in IN_A_CHILD:
                results[name] = await avatars.make(data)
            else:
                made = image_child.renditions(data, list(AVATAR.sizes))
                results[name] = Picture("", *made[0][1], {size: image for size, _, image in made})
        except NotAnImage as error:
            results[name] = error.reason
        except image_child.Unusable as unusable:
            results[name] = str(unusable)
    return results


async def test_images_of_every_kind(avatars: Pictures) -> None:
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.frombytes("I;16", (300, 300), struct.pack("<90000H", *[40_000] * 90_000))
    clear = quarters(mode="RGBA")
    clear.putalpha(0)
    inputs = {
        "JPEG with a place": saved(quarters(), "JPEG", exif=exif, icc_profile=profile, comment=SECRET),
        "progressive JPEG": saved(quarters(1200, 900), "JPEG", progressive=True),
        "CMYK JPEG": saved(quarters(mode="CMYK"), "JPEG"),
        "PNG": saved(quarters(), "PNG"),
        "palette PNG": saved(quarters().quantize(8), "PNG"),
        "WebP": saved(quarters(), "WEBP", lossless=True),
        "GIF, two frames": saved(
            quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (640, 480))]
        ),
        "AVIF": saved(quarters(200, 200), "AVIF"),
        "very wide": saved(quarters(2000, 20), "PNG"),
        "one pixel": saved(Image.new("RGB", (1, 1), RED), "PNG"),
        "16 bits": saved(grey, "PNG"),
        "transparent": saved(clear, "PNG"),
        "large": saved(quarters(6000, 5000), "JPEG"),
    }
    results = await make_all(avatars, inputs)
    for name, result in results.items():
        assert isinstance(result, Picture), (name, result)
        big, small = opened(result)
        assert all(len(data) < 30_000 and SECRET not in data for data in result.images.values())
        if name == "very wide":
            # The middle, where red meets green and blue meets white.
            assert corners(big) == ["red", "green", "blue", "white"]
        elif name == "16 bits":
            assert abs(big.convert("L").getpixel((128, 128)) - 156) < 6
        elif name == "transparent":
            assert big.convert("RGBA").getpixel((128, 128))[3] == 0
        elif name == "one pixel":
            assert corners(big) == ["red"] * 4
        else:
            assert corners(big) == corners(small) == ["red", "green", "blue", "white"], name


async def test_every_orientation_ends_upright(avatars: Pictures) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    inputs = {}
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        # One small, one so large that it is made smaller while it is decoded, and in another format.
        for kind, size in (("JPEG", 500), ("JPEG", 3000), ("PNG", 1600)):
            inputs[f"{orientation} {kind} {size}"] = saved(
                quarters(size, size).transpose(turn), kind, exif=exif
            )
    results = await make_all(avatars, inputs)
    for name, result in results.items():
        assert isinstance(result, Picture), (name, result)
        assert corners(opened(result)[0]) == ["red", "green", "blue", "white"], name


def png_of(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def test_what_is_no_image_and_what_is_too_much_of_one(avatars: Pictures) -> None:
    good = saved(quarters(), "PNG")
    bomb = zlib.compress(bytes(3 * 1000 * 1000), 9)
    inputs = {
        "nothing": b"",
        "text": b"hello " * 100,
        "html": b"<!doctype html><script>alert(1)</script>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "a zip": b"PK\x03\x04" + bytes(200),
        "a PDF": b"%PDF-1.7\n" + bytes(200),
        "a BMP": saved(quarters(), "BMP"),
        "a TIFF": saved(quarters(), "TIFF"),
        "cut off": good[: len(good) // 2],
        "damaged": good[:60] + bytes(40) + good[100:],
        "a cut JPEG": saved(quarters(), "JPEG")[:3000],
        "wide beyond all": png_of(60_000, 10, bomb),
        "a bomb": png_of(20_000, 20_000, bomb),
        "a liar": png_of(8000, 8000, zlib.compress(b"short")),
    }
    results = await make_all(avatars, inputs)
    for name, result in results.items():
        assert isinstance(result, str), name
        if name in ("wide beyond all", "a bomb"):
            assert "too large" in result and "pixels" in result, (name, result)
        elif name in ("cut off", "damaged", "a cut JPEG", "a liar"):
            assert "damaged" in result, (name, result)
        else:
            assert result == "This is no JPEG, PNG, WebP, GIF or AVIF image.", (name, result)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_the_same_image_has_the_same_name_and_others_go(avatars: Pictures, tmp_path: Path) -> None:
    one = await avatars.make(saved(quarters(), "PNG"))
    again = await avatars.make(saved(quarters(), "PNG", compress_level=1))
    other = await avatars.make(saved(quarters().transpose(Image.Transpose.ROTATE_90), "PNG"))
    assert one.hash == again.hash != other.hash
    avatars.store(7, one)
    avatars.store(7, other)
    avatars.store(8, one)
    assert avatars.path(7, one.hash, 64).read_bytes() == one.images[64]
    avatars.keep_only(7, {other.hash})
    assert names(tmp_path / "7") == [f"256-{other.hash}.webp", f"64-{other.hash}.webp"]
    avatars.keep_only(7, ())
    avatars.keep_only(9, ())
    assert names(tmp_path) == ["8"]
    for hash in ("../../etc", "", one.hash.upper(), one.hash + "/", one.hash + "\n"):
        with pytest.raises(ValueError):
            avatars.path(7, hash, 64)
    with pytest.raises(ValueError):
        avatars.path(7, one.hash, 128)
    assert [AVATAR.fitting(n) for n in (1, 64, 65, 256, 4096)] == [64, 64, 256, 256, 256]


async def test_a_child_that_is_killed_or_hangs_is_no_avatar(
    avatars: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    monkeypatch.setattr("veza.media.images._CHILD", script)
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotAnImage, match="cannot be decoded"):
        await avatars.make(b"x" * 1_000_000)

    class Turns:
        """The short time is that of the child, not that until its turn comes."""

        async def __aenter__(self) -> None:
            monkeypatch.setattr("veza.media.images.SECONDS", 0.2)

        async def __aexit__(self, *_: object) -> None:
            pass

    script.write_text("import time; time.sleep(600)")
    hasty = Pictures(tmp_path, AVATAR, Turns())  # type: ignore[arg-type]
    with trio.fail_after(60), pytest.raises(NotAnImage, match="too long"):
        await hasty.make(b"x")


async def test_the_child_knows_none_of_our_secrets(
    avatars: Pictures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    curious = tmp_path / "curious.py"
    curious.write_text("import json, os\nprint(json.dumps({'reason': str(dict(os.environ))}))\n")
    monkeypatch.setattr("veza.media.images._CHILD", curious)
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    with pytest.raises(NotAnImage) as told:
        await avatars.make(b"anything")
    assert "PATH" in told.value.reason and "hunter2" not in told.value.reason
