"""Binding: TCP addresses and Unix socket files become listeners (SK-01 to SK-06)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from stario_trio.exceptions import StarioError
from stario_trio.server.listener import BURST
from stario_trio.server.transport import SocketTransport

if TYPE_CHECKING:
    from stario_trio.server.config import Config

__all__ = ["Address", "SocketListener", "bind", "close"]

#: Where a server listens: `(host, port)`, or the path of its Unix socket.
Address: TypeAlias = "tuple[str, int] | str"

# Anybody on the machine may connect, as the seed says; the directory's own permissions are the way to restrict it.
_UNIX_MODE: Final = 0o666
# What binding an IPv6 address says where the machine has none.
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
# Linux only, and Python has no name for it: a filter for the segments that reach a socket (socket(7)).
_SO_ATTACH_FILTER: Final = 26
# A classic BPF program (linux/filter.h: code, jump if true, jump if false, operand): drop a segment that has SYN and
# not ACK, which would begin a handshake. A TCP socket's filter sees the segment from the TCP header on; its byte 13
# holds the flags.
_NO_HANDSHAKE: Final = array(
    "B",
    b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # load byte 13
            (0x54, 0, 0, 0x12),  # keep its SYN and ACK
            (0x15, 0, 1, 0x02),  # only SYN? else skip one
            (0x06, 0, 0, 0),  # pass nothing of it on
            (0x06, 0, 0, 0xFFFF_FFFF),  # pass all of it on
        )
    ),
)


class SocketListener:
    """A listening socket, and for a Unix socket the file it has made."""

    def __init__(
        self, sock: socket.socket, address: Address, unix_file: UnixFile | None = None, *, burst: int = BURST
    ) -> None:
        sock.setblocking(False)
        self.burst = burst
        self._sock = sock
        self._unix_file = unix_file
        self.address = address

    @property
    def port(self) -> int:
        """The bound TCP port, 0 for a Unix socket."""
        return 0 if isinstance(self.address, str) else self.address[1]

    def accept(self) -> SocketTransport:
        """See `Listener.accept`."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this listener is closed")
        sock, _peer = self._sock.accept()
        if self._unix_file is None:
            # An event of an SSE stream is a small write that must not wait for an acknowledgement.
            with contextlib.suppress(OSError):  # the peer may have reset it already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SocketTransport(sock)

    def refuse(self) -> None:
        """See `Listener.refuse`.

        Linux can shut the door of a Unix socket. That of a TCP socket it can only ignore: a newcomer is not answered,
        asks again after a second, and finds either nobody or the next server. Without this, a handshake that ends
        between the last accept and the close is reset, and under load there are always some.
        """
        if sys.platform == "linux":
            if self._unix_file is not None:
                self._unix_file.shut = True
                self._sock.shutdown(socket.SHUT_RD)
            else:
                address, _ = _NO_HANDSHAKE.buffer_info()
                size = len(_NO_HANDSHAKE) // 8  # in instructions
                with contextlib.suppress(OSError):  # a sandbox may know no filters
                    self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", size, address))

    async def wait_acceptable(self) -> None:
        """See `Listener.wait_acceptable`."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this listener is closed")
        if self._unix_file is not None and self._unix_file.shut:
            # By another worker, whose stop came first. A shut socket stays readable and has nobody to accept.
            raise trio.ClosedResourceError("this listener is shut")
        await trio.lowlevel.wait_readable(self._sock)

    def shut(self) -> None:
        """Let nobody in any more, from another thread than the listener's own, which hangs (SD-14)."""
        if self._unix_file is not None:
            self._unix_file.remove()
        with contextlib.suppress(OSError):  # nobody is left, or the thread has come to its own close after all
            self._sock.shutdown(socket.SHUT_RDWR)
            while True:  # TCP resets whoever is not accepted yet; on a Unix socket they would wait for ever
                self._sock.accept()[0].close()

    def close(self) -> None:
        """See `Listener.close`; removes the Unix socket file."""
        if self._sock.fileno() >= 0:
            # While the socket is open its inode cannot be given to another file, so the file goes first.
            if self._unix_file is not None:
                self._unix_file.remove()
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class UnixFile:
    """The file of a Unix socket, known by its inode; shared by the workers, as the socket is."""

    def __init__(self, path: str) -> None:
        self.path: str = os.path.abspath(path)  # the program may change its directory
        self.shut = False
        """Whether a worker has shut the socket: for all of them, since its descriptors are copies of one."""
        self._identity = self._identify()
        self._removers = ["the first"]

    def _identify(self) -> tuple[int, int]:
        status = os.lstat(self.path)
        return status.st_dev, status.st_ino

    def remove(self) -> None:
        """Remove the file if it is still the one this server made (SK-05); another's is left alone."""
        try:
            # One thread only: between a second one's look and its removal, the file may become another server's.
            self._removers.pop()
        except IndexError:
            return
        with contextlib.suppress(OSError):
            if self._identify() == self._identity:
                os.unlink(self.path)


async def bind(config: Config) -> list[list[SocketListener]]:
    """Bind every address of the settings, and listen.

    Returns:
        For each worker its listeners: sockets of its own for TCP (SK-01), its own descriptor of the one socket for
        Unix (SK-03).

    Raises:
        StarioError: the Unix path is taken.
        OSError: an address cannot be bound; none stays bound then.
    """
    if config.unix_socket is not None:
        return [[listener] for listener in _bind_unix(config.unix_socket, config.backlog, config.workers)]
    bound: list[list[SocketListener]] = []
    port = config.port
    try:
        for _ in range(config.workers):
            bound.append(await _bind_tcp(config.host, port, config.backlog, share=config.workers > 1))
            port = bound[0][0].port  # port 0 becomes the same real port for every worker
    except BaseException:
        close(bound)
        raise
    return bound


def close(bound: list[list[SocketListener]]) -> None:
    """Close the listeners of every worker."""
    for listeners in bound:
        for listener in listeners:
            listener.close()


async def _bind_tcp(host: str, port: int, backlog: int, *, share: bool) -> list[SocketListener]:
    """Listen on every address the host name has (SK-02)."""
    listeners: list[SocketListener] = []
    refused: OSError | None = None
    try:
        found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listener = _listen_tcp(family, kind, protocol, (address[0], port, *address[2:]), backlog, share=share)
            except OSError as exc:
                if family != socket.AF_INET6 or exc.errno not in _NO_IPV6:
                    raise
                refused = exc  # a name such as localhost may have an IPv6 address on a machine without IPv6
                continue
            listeners.append(listener)
            port = listener.port  # port 0 becomes the same real port for every address
        if not listeners and refused is not None:
            raise refused
    except UnicodeError as exc:  # the idna codec: an empty label, or one of more than 63 bytes
        raise socket.gaierror(socket.EAI_NONAME, f"cannot listen on {host}:{port}: no host name") from exc
    except OSError as exc:
        for listener in listeners:
            listener.close()
        raise type(exc)(exc.errno, f"cannot listen on {host or '*'}:{port}: {exc.strerror}") from exc
    return listeners


def _listen_tcp(
    family: int, kind: int, protocol: int, address: tuple[str | int, ...], backlog: int, *, share: bool
) -> SocketListener:
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows it would let two servers share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:  # SK-01
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # IPv4 has a listener of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        return SocketListener(sock, sock.getsockname()[:2])
    except BaseException:
        sock.close()
        raise


def _bind_unix(path: str, backlog: int, workers: int) -> list[SocketListener]:
    """Listen on a Unix socket file, with a descriptor for each worker (SK-03, SK-04)."""
    if not hasattr(socket, "AF_UNIX"):
        raise StarioError("Unix sockets are not available on this platform", help_text="Give host and port instead.")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made: UnixFile | None = None
    socks = [sock]
    try:
        sock.bind(path)
        made = UnixFile(path)
        os.chmod(path, _UNIX_MODE)  # before listen(): nobody can connect yet, so nobody meets another mode
        sock.listen(backlog)
        socks.extend(sock.dup() for _ in range(workers - 1))
    except OSError as exc:
        if made is not None:
            made.remove()
        for each in socks:
            each.close()
        raise OSError(exc.errno, f"cannot listen on {path}: {exc.strerror or exc}") from exc
    # The kernel spreads nothing here: who takes many at once leaves none to the others.
    burst = BURST if workers == 1 else 1
    return [SocketListener(each, path, made, burst=burst) for each in socks]


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody accepts on any more; leave everything else alone."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StarioError(
            f"unix_socket is no socket: {path}",
            context={"unix_socket": path},
            help_text="Something else has this path, and it is left as it is. Choose another path, or remove it.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer != errno.ECONNREFUSED:
        raise StarioError(
            f"unix_socket is in use: {path}",
            context={"unix_socket": path},
            help_text="A server accepts connections there. Stop it first, or choose another path.",
        )
    os.unlink(path)
