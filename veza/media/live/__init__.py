"""Live HLS from the inside: what the child process of `veza/media/live_hls.py` is made of.

`feed.py` cuts the source into runs that one demuxer can read; `recoding.py` makes of their packets what HLS can carry;
`segmenter.py` muxes it into segments; `playlist.py` is the playlist. Nothing here is imported by the server but
`playlist.py`, which is pure.
"""
