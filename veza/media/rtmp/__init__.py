"""RTMP as broadcasting programs speak it (OBS, FFmpeg): the server's side of publishing, pure code over bytes.

`session.py` is the conversation, `chunks.py` how its messages are cut, `amf.py` how their values are written. Adobe's
Real Time Messaging Protocol 1.0 (2012), AMF 0, and the FLV file format for what comes out of it.
"""

from veza.media.rtmp.chunks import ProtocolError
from veza.media.rtmp.session import FLV_HEADER, Ended, Media, Publish, RtmpSession

__all__ = ["FLV_HEADER", "Ended", "Media", "ProtocolError", "Publish", "RtmpSession"]
