"""Veza: chat, audio and a marketplace for musicians, one program on trio.

Importing this package must stay free of side effects and cheap: `veza --help` pays for it.
"""

__version__ = "0.1.0"
