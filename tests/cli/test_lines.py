"""The line being typed: the usual keys do the usual things, and nothing that arrives garbles it or the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.commands.lines import Key, LineEditor, Screen, cells, harmless

LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"
HOME, END, DELETE = b"\x1b[H", b"\x1b[F", b"\x1b[3~"


def typed(*parts: bytes) -> tuple[LineEditor, list[str | Key]]:
    editor = LineEditor()
    return editor, [each for part in parts for each in editor.feed(part)]


def test_a_line_is_what_was_typed_before_return() -> None:
    editor, lines = typed("hallo wörld 🎸".encode(), b"\r", b"next")
    assert lines == ["hallo wörld 🎸"]
    assert editor.text == "next"


@pytest.mark.parametrize(
    ("keys", "text", "at"),
    [
        ([b"abc", b"\x7f"], "ab", 2),
        ([b"abc", b"\x7f" * 9], "", 0),
        ([b"abc", LEFT, b"X"], "abXc", 3),
        ([b"abc", LEFT * 9, b"X", RIGHT], "Xabc", 2),
        ([b"abc", HOME, b"X", END, b"Y"], "XabcY", 5),
        ([b"abc", b"\x01", b"X", b"\x05", b"Y"], "XabcY", 5),
        ([b"abc", LEFT, LEFT, DELETE], "ac", 1),
        ([b"abc", LEFT, b"\x04"], "ab", 2),
        ([b"one two  three", b"\x17"], "one two  ", 9),
        ([b"one two  ", b"\x17"], "one ", 4),
        ([b"one", b"\x17", b"\x17"], "", 0),
        ([b"abc", LEFT, b"\x15"], "c", 0),
        ([b"abc", LEFT, b"\x0b"], "ab", 2),
        ([b"abc", b"\x1b[99;5~", b"\x1bZ", b"d"], "abcd", 4),  # keys we know nothing of
        ([b"a\tb"], "a b", 3),
        ([b"a\x00\x07b"], "ab", 2),
    ],
)
def test_keys(keys: list[bytes], text: str, at: int) -> None:
    editor, lines = typed(*keys)
    assert (editor.text, editor.at, lines) == (text, at, [])


def test_lines_of_before_come_back() -> None:
    editor, _ = typed(b"one\r", b"two\r", b"two\r", b"draft")
    seen = []
    for key in (UP, UP, UP, DOWN, DOWN, DOWN):
        list(editor.feed(key))
        seen.append(editor.text)
    assert seen == ["two", "one", "one", "two", "draft", "draft"]


def test_what_comes_in_pieces_is_put_together() -> None:
    editor = LineEditor()
    for byte in "wö🎸".encode() + LEFT + b"x":
        list(editor.feed(bytes([byte])))
    assert editor.text == "wöx🎸"


def test_a_pasted_text_is_one_line() -> None:
    editor, lines = typed(b"\x1b[200~one\ntwo\r\nthree\x1b[201~")
    assert lines == []
    assert editor.text == "one two  three"
    assert list(editor.feed(b"\r")) == ["one two  three"]


def test_keys_that_mean_something_outside() -> None:
    assert typed(b"abc\x03")[1] == [Key.INTERRUPT]
    assert typed(b"\x04")[1] == [Key.END]
    assert typed(b"\x0c")[1] == [Key.REDRAW]


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(10, 120))
def test_whatever_is_typed_the_line_can_be_shown(parts: list[bytes], width: int) -> None:
    editor = LineEditor("> ")
    for part in parts:
        for line in editor.feed(part):
            assert not isinstance(line, str) or line.isprintable() or any(c in line for c in "\u200d\u00ad")
        assert 0 <= editor.at <= len(editor.text)
        shown, column = editor.render(width)
        assert column < width
        assert cells(shown) <= width
        assert "\x1b" not in shown


@given(st.text(min_size=1, max_size=200), st.integers(10, 80))
def test_the_cursor_is_always_in_sight(text: str, width: int) -> None:
    editor = LineEditor("> ")
    list(editor.feed(text.replace("\r", "").replace("\n", "").encode("utf-8", "ignore")))
    for key in (b"", HOME, RIGHT, END, LEFT):
        list(editor.feed(key))
        shown, column = editor.render(width)
        assert 2 <= column < width
        assert cells(shown[:column]) <= width


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("漢字", 4), ("é", 1), ("🎸", 2), ("👩\u200d🎤", 4), ("", 0)]
)
def test_columns(text: str, width: int) -> None:
    assert cells(text) == width


@given(st.text())
def test_what_others_wrote_does_nothing_to_a_terminal(text: str) -> None:
    shown = harmless(text)
    assert len(shown) == len(text)
    assert not any(ord(character) < 32 and character != "\n" for character in shown)
    assert not any(0x7F <= ord(character) < 0xA0 for character in shown)
    assert "\u202e" not in shown  # which would turn what follows around


def test_printing_keeps_the_line_being_typed() -> None:
    out = io.StringIO()
    editor, _ = typed(b"half a sen")
    screen = Screen(editor, out, interactive=True)
    screen.say("bob: hello")
    assert out.getvalue() == "\r\x1b[Kbob: hello\n\r\x1b[K> half a sen\r\x1b[12C"


def test_into_a_pipe_go_lines_and_nothing_else() -> None:
    out = io.StringIO()
    screen = Screen(LineEditor(), out, interactive=False)
    screen.draw()
    screen.say("bob: hello")
    screen.end()
    assert out.getvalue() == "bob: hello\n"
