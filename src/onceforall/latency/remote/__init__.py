"""Latency on another machine, over ssh: `agent.py` runs there, the rest here."""

from .bundle import Model
from .meter import RemoteMeter
from .ssh import Ssh

__all__ = ["Model", "RemoteMeter", "Ssh"]
