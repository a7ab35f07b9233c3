"""Actors: who owns live state, one message at a time.

This package exists so that state needs no locks: an **actor** is one task with one bounded mailbox, and nobody
else touches what it holds. It knows no domain, and must never: it imports nothing of the product.

    actor       `Actor` (subclass it) and `Context` (what an actor may ask of the kernel)
    ref         `Ref`: tell, ask, answer
    errors      what can go wrong, as types
    supervisor  who starts, restarts and stops actors
    system      the root of the tree
    slot        one key's place in the tree, while incarnations of its actor come and go
    mailslot    the slot of an actor with a task: mailbox and lane, jobs and timers, the loop that handles messages
    inline      the slot of an actor without one, handled in its caller's task
    parcels     what travels in mailbox and lane around a message: replies, timers, results of jobs
    waiting     who waits for whom, so that no circle does
    clock       one task for all timers
    records     what inspection shows, and how it is counted
    report      what the log says of a crash

Promises
- Messages of one sender to one actor are handled in the order in which they were accepted, one at a time, each at
  most once.
- What an actor accepted it handles before an orderly end. One that is ended otherwise (`Stop`, too many crashes, a
  stop past its deadline) drops what it still held. Whoever *asked* is told in any case.
- A message on the reserved lane (an answer, a job's result, a timer) is handled before anything in the mailbox, and
  putting it there never blocks.
- A crash is confined to its actor. Mailbox, lane, jobs under way and the carried object survive it; the message it
  crashed on does not.
- Two incarnations of one key never run at the same time.
- Nobody waits for ever for somebody who waits for him.
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
