"""Actors: who owns live state, one message at a time.

This package exists so that state needs no locks: an **actor** is one task with one bounded mailbox, and
nobody else touches what it holds. It knows no domain and imports nothing of the product.

    actor       `Actor` (subclass it) and `Context` (what an actor may ask of the kernel)
    ref         `Ref`: tell, ask, answer
    errors      what can go wrong, as types
    supervisor  who starts, restarts and stops actors
    system      the root of the tree
    slot        one key's place in the tree, whatever its incarnation
    mailslot    the slot of an actor with a task: mailbox, lane, jobs, timers, and the loop that handles
    messages inline      the slot of an actor without one, handled in its caller's task parcels     what
    travels in mailbox and lane around a message: replies, timers, results of jobs waiting     who waits for
    whom, so that no circle does clock       one task for all timers records     what inspection shows, and
    how it is counted report      what the log says of a crash

Promises
- Messages of one sender to one actor are handled in the order they were accepted, each at most once, one at a
  time.
- Accepted is not handled: an actor that is ended for good, or cut off past a stop's deadline, drops what it
  still held. Whoever *asked* is always told; nobody waits for ever.
- A message on the reserved lane (answers, results of jobs, timers) is handled before anything in the mailbox,
  and putting it there never blocks.
- Two incarnations of one key never run at the same time.
- A crash is confined to its actor. The mailbox, the lane, running jobs and the carried object survive it.
"""

from veza.actors.kernel.actor import Actor, Context
from veza.actors.kernel.errors import (
    ActorCrashed,
    ActorError,
    ActorStopped,
    AlreadyRunning,
    AskTimeout,
    CircularAsk,
    MailboxFull,
    NoSuchActor,
    Refusal,
    Stop,
    SystemFailed,
)
from veza.actors.kernel.inline import InlineSlot
from veza.actors.kernel.parcels import Reply, Timer
from veza.actors.kernel.records import ActorInfo, Failure, HandlerTimes, MailboxInfo, Restarts
from veza.actors.kernel.ref import Ref
from veza.actors.kernel.supervisor import Supervisor
from veza.actors.kernel.system import System, open_system

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorInfo",
    "ActorStopped",
    "AlreadyRunning",
    "AskTimeout",
    "CircularAsk",
    "Context",
    "Failure",
    "HandlerTimes",
    "InlineSlot",
    "MailboxFull",
    "MailboxInfo",
    "NoSuchActor",
    "Ref",
    "Refusal",
    "Reply",
    "Restarts",
    "Stop",
    "Supervisor",
    "System",
    "SystemFailed",
    "Timer",
    "open_system",
]
