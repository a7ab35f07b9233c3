"""What others are to hear of: the courier brings it from the outbox to the people, everybody online has a notifier.

`Notices` is the way to both. Nothing here decides who is told (`veza.db.courier` does), and nothing that is stored can
be lost here: whatever goes wrong, a notifier reads again what its person has not been told.
"""

from veza.actors.notices.notices import Notices

__all__ = ["Notices"]
