"""Frames out of a file as far as they can be decoded: damage is skipped, an end that comes too early is an end.

In a child process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_BROKEN_READS: Final = 100  # errors of the demuxer in a row, after which there is nothing more to be had


def packets_of(
    container: InputContainer, streams: Sequence[AudioStream | VideoStream]
) -> Iterator[Packet[Any]]:
    """Packets of these streams in the order of the file; each stream's last one is empty, for what a decoder holds."""
    packets = container.demux(*streams)
    broken = 0
    while broken < _BROKEN_READS:
        try:
            yield next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError):
            broken += 1
            packets = container.demux(*streams)
        else:
            broken = 0


def frames_of(
    container: InputContainer, streams: Sequence[AudioStream | VideoStream], *, patience: int | None = None
) -> Iterator[AudioFrame | VideoFrame]:
    """What can be decoded of these streams.

    Args:
        patience: packets in a row of which nothing comes, after which it is given up.
    """
    fruitless = 0
    for packet in packets_of(container, streams):
        frames = decoded(packet)
        if frames:
            fruitless = 0
            yield from frames
        else:
            fruitless += 1
            if patience is not None and fruitless > patience:
                return


def decoded(packet: Packet[Any]) -> list[Any]:
    """Its frames; none if it is damaged."""
    try:
        return list(packet.decode())
    except (av.error.FFmpegError, ValueError):
        return []
