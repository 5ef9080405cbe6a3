"""Latency on another machine, over ssh: `agent.py` runs there, the rest here."""

from .bundle import RemoteModel
from .meter import RemoteMeter
from .ssh import Ssh

__all__ = ["RemoteMeter", "RemoteModel", "Ssh"]
