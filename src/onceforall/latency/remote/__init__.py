"""Latency on another machine over ssh: `agent.py` runs on the remote machine, the rest on this one."""

from .bundle import RemoteModel
from .meter import RemoteMeter
from .ssh import Ssh

__all__ = ["RemoteMeter", "RemoteModel", "Ssh"]
