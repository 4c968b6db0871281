"""chatmem: a terminal chat whose memory you can see, steer and trust."""

__version__ = "0.1.0"
