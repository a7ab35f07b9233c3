"""Every error of the kernel. None of them carries a message's content: they end up in logs and answers."""


class Refusal(Exception):
    """A handler says no. It is the answer to an ask, not a crash; errors of the domain subclass it.

    Raised while handling something nobody asked for, it is dropped.
    """


class Stop(Exception):
    """Raised in `started` or `handle`: end this actor for good, without a restart and without `stopping`.

    Everybody who asked it and has no answer yet gets `reason`, or `ActorStopped` if there is none.
    """

    def __init__(self, reason: Exception | None = None) -> None:
        super().__init__()
        self.reason = reason


class ActorError(Exception):
    """What the kernel itself raises; `path` names the actor it is about."""

    sentence = "failed"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path or 'system'}: {self.sentence}")
        self.path = path


class ActorStopped(ActorError):
    """The actor has ended, or no longer accepts messages. `ensure` starts a new one.

    From a tell: the message was not accepted. From an ask: there will be no answer; if the message was being handled
    when the actor was ended, the outcome is unknown.
    """

    sentence = "this actor has stopped"


class ActorCrashed(ActorError):
    """The handler crashed on this message. What it did before that is unknown to the asker."""

    sentence = "this actor crashed while handling the message"

    def __init__(self, path: str, error: str = "") -> None:
        super().__init__(path)
        self.error = error
        """The name of the exception's type."""


class AskTimeout(ActorError):
    """No answer in time. If handling had not begun it never will; if it had, its outcome is unknown."""

    sentence = "no answer in time"


class MailboxFull(ActorError):
    """`tell_nowait` found no room; the message was not accepted."""

    sentence = "the mailbox is full"


class CircularAsk(ActorError):
    """Waiting would close a circle of actors waiting for each other; nothing was sent."""

    def __init__(self, circle: tuple[str, ...]) -> None:
        self.sentence = "would wait for itself: " + " → ".join(circle)
        super().__init__(circle[0])
        self.circle = circle


class AlreadyRunning(ActorError):
    """The key is taken."""

    sentence = "already running"


class NoSuchActor(ActorError):
    """Nothing in the tree has this path."""

    sentence = "no such actor"


class SystemFailed(ActorError):
    """A critical actor was restarted too often, so the whole system has been stopped."""

    sentence = "this critical actor was restarted too often; the system stops"
