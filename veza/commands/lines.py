"""Editing one line in a terminal while others print above it.

`LineEditor` is pure: bytes from the keyboard in, finished lines out, and what the line looks like at a given width.
`Screen` owns the terminal: it keeps the line at the bottom and prints above it, so nothing that arrives garbles what is
being typed. What others wrote is made harmless first: no control character of theirs reaches the terminal.
"""

import codecs
import contextlib
import os
import shutil
import sys
import termios
import unicodedata
from collections.abc import Iterator
from enum import Enum
from typing import Final, TextIO

KEPT_LINES: Final = 200
LONGEST_LINE: Final = 4000


class Key(Enum):
    """What the editor does not deal with itself."""

    INTERRUPT = "ctrl-c"
    END = "ctrl-d"
    REDRAW = "ctrl-l"


class LineEditor:
    """One line being written, with the usual keys of shells, and the lines written before."""

    def __init__(self, prompt: str = "> ") -> None:
        self.prompt = prompt
        self.text = ""
        self.at = 0  # 0 <= at <= len(text)
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore").decode
        self._escape = ""  # an escape sequence that has begun
        self._pasting = False
        self._before: list[str] = []
        self._place = 0  # in _before; its length: the line being written
        self._draft = ""

    def feed(self, data: bytes) -> Iterator[str | Key]:
        """Take what was typed; yields finished lines and keys that mean something outside."""
        for character in self._decode(data):
            if self._escape:
                self._continue_escape(character)
            elif character == "\x1b":
                self._escape = character
            elif character in "\r\n":
                if self._pasting:
                    self._insert(" ")
                else:
                    yield self._finish()
            elif character == "\x03":
                yield Key.INTERRUPT
            elif character == "\x04" and not self.text:
                yield Key.END
            elif character == "\x0c":
                yield Key.REDRAW
            else:
                self._edit(character)

    def _finish(self) -> str:
        line, self.text, self.at = self.text, "", 0
        if line.strip() and self._before[-1:] != [line]:
            self._before = [*self._before, line][-KEPT_LINES:]
        self._place = len(self._before)
        return line

    def _edit(self, character: str) -> None:
        match character:
            case "\x7f" | "\x08":
                self._cut(self.at - 1, self.at)
            case "\x04":
                self._cut(self.at, self.at + 1)
            case "\x01":
                self.at = 0
            case "\x05":
                self.at = len(self.text)
            case "\x02":
                self.at = max(self.at - 1, 0)
            case "\x06":
                self.at = min(self.at + 1, len(self.text))
            case "\x15":
                self._cut(0, self.at)
            case "\x0b":
                self._cut(self.at, len(self.text))
            case "\x17":
                self._cut(self._word_before(), self.at)
            case "\x10":
                self._recall(-1)
            case "\x0e":
                self._recall(1)
            case _:
                if character.isprintable() or unicodedata.category(character) == "Cf":  # joiners within emoji
                    self._insert(character)
                elif character == "\t":
                    self._insert(" ")

    def _insert(self, text: str) -> None:
        if len(self.text) < LONGEST_LINE:
            self.text = self.text[: self.at] + text + self.text[self.at :]
            self.at += len(text)

    def _cut(self, start: int, end: int) -> None:
        start, end = max(start, 0), min(end, len(self.text))
        self.text = self.text[:start] + self.text[end:]
        self.at = start

    def _word_before(self) -> int:
        return len(self.text[: self.at].rstrip().rpartition(" ")[0]) + (" " in self.text[: self.at].rstrip())

    def _recall(self, step: int) -> None:
        place = self._place + step
        if not 0 <= place <= len(self._before):
            return
        if self._place == len(self._before):
            self._draft = self.text
        self._place = place
        self.text = self._draft if place == len(self._before) else self._before[place]
        self.at = len(self.text)

    def _continue_escape(self, character: str) -> None:
        """CSI and SS3 sequences (ECMA-48 §5.4); what is not known is swallowed whole."""
        self._escape += character
        if self._escape in ("\x1b[", "\x1bO") or (self._escape[1] == "[" and character in "0123456789;?"):
            if len(self._escape) > 16:
                self._escape = ""
            return
        sequence, self._escape = self._escape[1:], ""
        match sequence:
            case "[D" | "OD":
                self._edit("\x02")
            case "[C" | "OC":
                self._edit("\x06")
            case "[A" | "OA":
                self._recall(-1)
            case "[B" | "OB":
                self._recall(1)
            case "[H" | "OH" | "[1~" | "[7~":
                self.at = 0
            case "[F" | "OF" | "[4~" | "[8~":
                self.at = len(self.text)
            case "[3~":
                self._cut(self.at, self.at + 1)
            case "[200~" | "[201~":
                self._pasting = sequence == "[200~"

    def render(self, width: int) -> tuple[str, int]:
        """The prompt and the part of the line that fits, and the column of the cursor in it."""
        room = max(width - cells(self.prompt) - 1, 1)
        start = self.at
        while start > 0 and cells(self.text[start - 1 : self.at]) <= room:
            start -= 1
        end = self.at
        while end < len(self.text) and cells(self.text[start : end + 1]) <= room:
            end += 1
        return self.prompt + self.text[start:end], cells(self.prompt) + cells(self.text[start : self.at])


def cells(text: str) -> int:
    """How many columns a terminal takes to show a text."""
    return sum(
        0
        if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def harmless(text: str) -> str:
    """A text that does nothing to a terminal but show: without control characters and direction overrides."""
    return "".join(
        character
        if character.isprintable() or character in "\n\u200d\u200c"
        else " "
        if character == "\t"
        else "\ufffd"
        for character in text
    )


class Screen:
    """A terminal with a line being edited at its bottom."""

    def __init__(self, editor: LineEditor, out: TextIO, *, interactive: bool) -> None:
        self._editor = editor
        self._out = out
        self._interactive = interactive

    def say(self, line: str) -> None:
        """Print something above the line being edited."""
        if self._interactive:
            self._out.write(f"\r\x1b[K{line}\n")
            self.draw()
        else:
            self._out.write(f"{line}\n")
            self._out.flush()

    def draw(self, *, all_of_it: bool = False) -> None:
        """Show the line as it is now."""
        if self._interactive:
            shown, column = self._editor.render(shutil.get_terminal_size().columns)
            clear = "\x1b[2J\x1b[H" if all_of_it else ""
            self._out.write(f"{clear}\r\x1b[K{shown}\r" + (f"\x1b[{column}C" if column else ""))
            self._out.flush()

    def end(self) -> None:
        if self._interactive:
            self._out.write("\r\x1b[K")
            self._out.flush()


@contextlib.contextmanager
def keys_unechoed(descriptor: int) -> Iterator[None]:
    """Every key comes to us at once, as it is, and the terminal is as before in the end."""
    before = termios.tcgetattr(descriptor)
    changed = termios.tcgetattr(descriptor)
    changed[0] &= ~(termios.ICRNL | termios.INLCR | termios.IXON)
    changed[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    sys.stdout.write("\x1b[?2004h")  # tell pasted text from typed
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write("\x1b[?2004l")
            sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def is_terminal(stream: TextIO) -> bool:
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False
