"""A link that can be cut: a TCP proxy on loopback, which also counts the bytes of each way."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESET = struct.pack("ii", 1, 0)  # linger for no time: the other side sees the link break


class Proxy:
    """Passes connections on to a port, as long as it is told to.

    Args:
        target: the port on loopback.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._left: int | None = None
        self.sent = 0
        """Bytes to the device."""
        self.received = 0
        """Bytes from it."""
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and every one that is tried until :meth:`restore`."""
        with self._lock:
            self._refusing = True
            broken, self._open = self._open, set()
        for end in broken:
            _break(end)

    def cut_after(self, size: int) -> None:
        """Cut once so many more bytes came from the device: in the middle of whatever it says."""
        self._left = size

    def freeze(self) -> None:
        """Pass nothing on and break nothing, as when a cable is pulled."""
        self._flowing.clear()

    def restore(self) -> None:
        """Take connections again; what was cut stays cut."""
        self._left, self._refusing = None, False
        self._flowing.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()
        self._flowing.set()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                host, _ = self._listener.accept()
                self.connections += 1
                if self._refusing:
                    _break(host)
                    continue
                device = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open |= {host, device}
                for source, sink, back in ((host, device, False), (device, host, True)):
                    given = (source, sink, back)
                    threading.Thread(target=self._pass_on, args=given, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with suppress(OSError):  # it was cut
            while data := source.recv(65536):
                self._flowing.wait()
                if back and self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                sink.sendall(data)
                if back:
                    self.received += len(data)
                else:
                    self.sent += len(data)
                if self._left is not None and self._left <= 0:
                    self.cut()
        with self._lock:
            self._open -= {source, sink}
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """A proxy that lives as long as the block does."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
