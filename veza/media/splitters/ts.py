"""MPEG-TS (ISO/IEC 13818-1): packets of 188 bytes, a few to a chunk; one may begin where a picture stands on its own.

A chunk ends before a packet one may begin at, after a packet that ends a frame (its rest is stuffing), and at the
seven packets that senders put into one datagram: so nothing waits for longer than it has to. Where there is picture,
one may begin at the packets that say so (random access) or that hold a key frame's beginning; where there is only
sound, at every PES packet. `header` is the newest PAT and PMT of the first program.

A sync byte is believed when two more follow, 188 bytes apart; then packets are taken as they come. Kept back are at
most 376 bytes of search and a chunk of seven packets.
"""

from __future__ import annotations

import re
from typing import Final

from veza.media.splitters.chunk import Chunk
from veza.media.splitters.cutter import Cutter

PACKET: Final = 188
SYNC: Final = 0x47
SYNCED: Final = re.compile(rb"\x47(?=.{187}\x47.{187}\x47)", re.DOTALL)
"""A packet that two more follow."""
GROUP: Final = 7 * PACKET
JUMP: Final = 10.0
"""Seconds. Time stamps that are further apart say nothing about how long what is between them lasts."""

_SEARCHED: Final = 2 * PACKET + 1
_SECTION_MOST: Final = 1024
_CLOCK: Final = 90_000
_WRAP: Final = 1 << 33
_H264, _H265, _MPEG = frozenset({0x1B}), frozenset({0x24}), frozenset({0x01, 0x02})
_VIDEO: Final = _H264 | _H265 | _MPEG | {0x10, 0x33, 0xD1, 0xEA}
_AUDIO: Final = frozenset({0x03, 0x04, 0x0F, 0x11, 0x81, 0x87})
_PRIVATE: Final = 0x06  # Opus among others
_ADAPTATION_OF_CLOCK: Final = (
    8  # bytes of an adaptation field that holds a clock and no stuffing; more is stuffing
)


class TsSplitter(Cutter):
    """MPEG-TS, with sound alone as well."""

    content_type = "video/mp2t"

    def __init__(self) -> None:
        super().__init__()
        self._lost = True
        self._group = bytearray()
        self._key = False
        """Whether one may begin at the group."""
        self._time: int | None = None
        self._lasts: float | None = 0.0
        """Seconds that passed with the group."""
        self._pat = b""
        self._tables_pid = -1
        self._section = bytearray()
        self._section_packets = bytearray()
        self._main_pid = -1
        """What one begins at: the picture, or else the sound."""
        self._main_type = 0

    @property
    def held(self) -> int:
        return super().held + len(self._group)

    def _take(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        if self._lost:
            if end - at < _SEARCHED:
                return self._wait(_SEARCHED)
            found = SYNCED.search(kept, at)
            if found is None or found.start() > at:
                return self._skip((found.start() if found else end - _SEARCHED + 1) - at)
            self._lost = False
        if kept[at] != SYNC:
            self._flush(chunks)
            self._lost = True
            return self._skip(1)
        if end - at < PACKET:
            return self._wait(PACKET)
        packet = bytes(kept[at : at + PACKET])
        self._packet(packet, chunks)
        return PACKET

    def _packet(self, packet: bytes, chunks: list[Chunk]) -> None:
        second, control = packet[1], packet[3]
        pid = (second & 0x1F) << 8 | packet[2]
        begins = second & 0x40 != 0
        adaptation = packet[4] + 1 if control & 0x20 else 0  # bytes of the field, its length among them
        payload = 4 + adaptation if control & 0x10 else PACKET
        if pid == self._main_pid:
            if begins:
                if self.header and self._may_begin(packet, adaptation, payload):
                    self._flush(chunks)
                    self._key = True
                self._pass_time(packet, payload)
        elif pid == 0:
            self._read_pat(packet, payload, begins)
        elif pid == self._tables_pid:
            self._gather_pmt(packet, payload, begins)
        self._group += packet
        stuffed = adaptation > (_ADAPTATION_OF_CLOCK if begins else 0)
        if stuffed or len(self._group) == GROUP:
            self._flush(chunks)

    def _flush(self, chunks: list[Chunk]) -> None:
        if self._group:
            header = self.header if self._key else b""
            chunks.append(Chunk(bytes(self._group), self._key, self._lasts, header))
            self._group.clear()
        self._key, self._lasts = False, 0.0

    def _may_begin(self, packet: bytes, adaptation: int, payload: int) -> bool:
        """Whether a listener may begin at this PES packet of what one begins at."""
        if self._main_type not in _VIDEO:
            return True
        if adaptation > 1 and packet[5] & 0x40:
            return True
        return any(
            _is_key_unit(self._main_type, packet[found.end()])
            for found in _UNIT.finditer(packet, min(payload + 6, PACKET))
        )

    def _pass_time(self, packet: bytes, payload: int) -> None:
        """Time goes on to that of this PES packet: when it is to be decoded, or else shown."""
        pes = packet[payload : payload + 19]
        if len(pes) < 14 or not pes.startswith(b"\0\0\1") or not pes[7] & 0x80:
            return
        stamp = pes[14:19] if pes[7] & 0x40 and len(pes) == 19 else pes[9:14]
        time = (
            (stamp[0] >> 1 & 7) << 30 | stamp[1] << 22 | (stamp[2] >> 1) << 15 | stamp[3] << 7 | stamp[4] >> 1
        )
        before, self._time = self._time, time
        if before is None:
            return
        step = (time - before + _WRAP // 2) % _WRAP - _WRAP // 2
        if abs(step) > JUMP * _CLOCK:
            self._lasts = None
        elif self._lasts is not None:
            self._lasts += max(0, step) / _CLOCK

    def _read_pat(self, packet: bytes, payload: int, begins: bool) -> None:
        section = _section(packet, payload) if begins else b""
        if len(section) < 12 or section[0] != 0x00:
            return
        for at in range(8, min(3 + _length(section), len(section)) - 4 - 3, 4):
            if section[at : at + 2] != b"\0\0":  # that would be the network's table
                pid = (section[at + 2] & 0x1F) << 8 | section[at + 3]
                if pid != self._tables_pid:
                    self._tables_pid = pid
                    self._section.clear()
                    self._section_packets.clear()
                self._pat = _uncounted(packet)
                return

    def _gather_pmt(self, packet: bytes, payload: int, begins: bool) -> None:
        """The PMT may take several packets."""
        if begins:
            self._section[:] = _section(packet, payload)
            self._section_packets[:] = _uncounted(packet)
        elif self._section:
            self._section += packet[payload:]
            self._section_packets += _uncounted(packet)
        if len(self._section) < 3:
            self._section.clear()
            return
        whole = 3 + _length(self._section)
        if len(self._section) >= whole:
            if self._section[0] == 0x02 and whole <= _SECTION_MOST:
                self._read_pmt(bytes(self._section[:whole]))
            self._section.clear()

    def _read_pmt(self, section: bytes) -> None:
        if len(section) < 16:
            return
        at = 12 + ((section[10] & 0x0F) << 8 | section[11])
        streams: list[tuple[int, int]] = []
        while at + 5 <= len(section) - 4:
            streams.append((section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]))
            at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
        for types in (_VIDEO, _AUDIO, frozenset({_PRIVATE})):
            found = next((stream for stream in streams if stream[0] in types), None)
            if found is not None:
                self._main_type, self._main_pid = found
                header = self._pat + bytes(self._section_packets)
                if header != self.header:
                    self.header = header
                return


_UNIT: Final = re.compile(rb"\x00\x00\x01(?=.)", re.DOTALL)


def _is_key_unit(stream_type: int, first: int) -> bool:
    """Whether a unit of video that begins with this byte says that a picture stands on its own."""
    if stream_type in _H264:
        return first & 0x1F in (5, 7)  # an IDR picture; the parameters that come with it
    if stream_type in _H265:
        return 16 <= first >> 1 & 0x3F <= 21 or first >> 1 & 0x3F in (32, 33)
    return stream_type in _MPEG and first == 0xB3  # a sequence header


def _section(packet: bytes, payload: int) -> bytes:
    """The table's section that begins in this packet, behind what its pointer passes over."""
    return packet[payload + 1 + packet[payload] :] if payload < PACKET else b""


def _length(section: bytes | bytearray) -> int:
    return (section[1] & 0x0F) << 8 | section[2]


def _uncounted(packet: bytes) -> bytes:
    """The packet with its continuity counter at zero: a table that has not changed is the same bytes each time."""
    return packet[:3] + bytes([packet[3] & 0xF0]) + packet[4:]
