"""Binding and releasing addresses: SK-01 to SK-07."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Server, StarioError
from stario_trio.server.config import Config
from stario_trio.server.sockets import SocketListener
from stario_trio.server.sockets import bind as bind_all
from tests.support.live import PATIENCE, app_of, live, peer
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stario_trio import Context, Writer


async def bind(config: Config) -> list[SocketListener]:
    """Bind for one worker."""
    [listeners] = await bind_all(config)
    return listeners


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


# TCP


@pytest.mark.spec("SK-01")
def test_several_workers_need_so_reuseport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with pytest.raises(StarioError, match="SO_REUSEPORT unavailable"):
        Config(workers=2, port=0)
    Config(workers=2, unix_socket="server.sock")  # shared, so it needs none
    Config(workers=1, port=0)


@pytest.mark.spec("SK-02")
async def test_a_busy_port_is_an_error_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{port}: ") as info:
            await Server(app_of(), port=port).run()
    assert type(info.value) is OSError
    assert info.value.errno == errno.EADDRINUSE


@pytest.mark.spec("SK-02")
async def test_two_servers_cannot_share_a_port() -> None:
    async with live(("/", hello)) as server:
        with pytest.raises(OSError, match="cannot listen") as info:
            await Server(app_of(), port=server.addresses[0][1]).run()  # type: ignore[arg-type]
        assert info.value.errno == errno.EADDRINUSE
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"


@pytest.mark.spec("SK-02")
async def test_a_port_in_time_wait_can_be_bound_again() -> None:
    async with live(("/", hello)) as server, peer(server) as client:
        port = server.addresses[0][1]
        await client.ask("/", "Connection: close")
        await client.rest()  # the server closes first: its side is the one in TIME_WAIT
    async with live(("/", hello), port=port) as server:
        assert server.addresses == [("127.0.0.1", port)]


async def test_where_so_reuseaddr_would_share_the_port_it_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, two servers that both set it get the connections at random."""
    set_before: list[tuple[object, ...]] = []

    class Spy(socket.socket):
        def setsockopt(self, *args: Any) -> None:
            set_before.append(args)
            super().setsockopt(*args)

    monkeypatch.setattr(socket, "socket", Spy)
    for name, expected in (("nt", False), ("posix", True)):
        set_before.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", name)
            listeners = await bind(Config(port=0))
        for listener in listeners:
            listener.close()
        assert ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1) in set_before) is expected
        assert not any(args[1] == getattr(socket, "SO_REUSEPORT", None) for args in set_before)


async def test_port_0_is_told_as_the_real_one() -> None:
    async with live(("/", hello)) as server:
        [(host, port)] = server.addresses
        assert host == "127.0.0.1"
        assert int(port) > 0
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"


@ipv6
async def test_ipv6() -> None:
    async with live(("/", hello), host="::1") as server:
        assert server.addresses[0][0] == "::1"
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"


@ipv6
@pytest.mark.parametrize("host", ["", "localhost"])
async def test_every_address_of_a_name_has_the_same_port(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(_host: object, port: int, **_: object) -> list[Any]:
        v4, v6 = ("0.0.0.0", "::") if not host else ("127.0.0.1", "::1")
        kinds = (socket.SOCK_STREAM, 6, "")
        found = [(socket.AF_INET6, *kinds, (v6, port, 0, 0)), (socket.AF_INET, *kinds, (v4, port))]
        return [*found, *found]  # a resolver may say it twice

    monkeypatch.setattr(trio.socket, "getaddrinfo", both)
    async with live(("/", hello), host=host) as server:
        assert len(server.addresses) == 2
        assert len({address[1] for address in server.addresses}) == 1
        async with peer(server) as client:
            assert (await client.ask()).status == 200


async def test_a_name_with_an_ipv6_address_on_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(_host: object, port: int, **_: object) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    real = socket.socket

    def no_ipv6(family: int, *args: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **more)

    monkeypatch.setattr(trio.socket, "getaddrinfo", both)
    monkeypatch.setattr(socket, "socket", no_ipv6)
    listeners = await bind(Config(host="localhost", port=0))
    assert [listener.address[0] for listener in listeners] == ["127.0.0.1"]
    for listener in listeners:
        listener.close()


async def test_only_ipv6_on_a_machine_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ipv6(*_args: Any) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_ipv6)
    with pytest.raises(OSError, match=r"cannot listen on ::1:0: Address family") as info:
        await bind(Config(host="::1", port=0))
    assert info.value.errno == errno.EAFNOSUPPORT


async def test_no_address_stays_bound_when_another_one_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as busy:
        port = busy.getsockname()[1]

        async def two(_host: object, port: int, **_: object) -> list[Any]:
            kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kinds, ("127.0.0.1", port)), (*kinds, ("127.0.0.2", port))]

        monkeypatch.setattr(trio.socket, "getaddrinfo", two)
        with pytest.raises(OSError, match="cannot listen"):
            await bind(Config(host="two.test", port=port))
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["256.256.256.256", "a" * 64, "name.invalid"])
async def test_a_host_that_is_none_is_an_error_that_names_it(host: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on {host}"):
        await bind(Config(host=host, port=0))


async def test_small_events_are_sent_without_delay() -> None:
    (listener,) = await bind(Config(port=0))
    with socket.create_connection(listener.address):  # type: ignore[arg-type]
        await listener.wait_acceptable()
        transport = listener.accept()
        assert transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not transport._sock.getblocking()
        transport.close()
    listener.close()


async def test_a_closed_listener() -> None:
    (listener,) = await bind(Config(port=0))
    listener.close()
    listener.close()
    with pytest.raises(trio.ClosedResourceError):
        listener.accept()
    with pytest.raises(trio.ClosedResourceError):
        await listener.wait_acceptable()


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters what reaches a socket")


@needs_linux
@pytest.mark.spec("SD-02")
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=ipv6)])
async def test_no_handshake_begins_any_more_and_those_begun_are_served(host: str) -> None:
    (listener,) = await bind(Config(host=host, port=0))
    where: Any = listener.address
    early = socket.create_connection(where)
    with early, socket.socket(early.family) as late:
        listener.refuse()
        late.setblocking(False)
        assert late.connect_ex(where) == errno.EINPROGRESS
        transport = listener.accept()
        with pytest.raises(BlockingIOError):  # on loopback, a handshake needs no time
            listener.accept()
        # What was accepted has the filter of its listener, and works with it.
        early.sendall(b"a question")
        await transport.wait_readable()
        assert transport.recv(100) == b"a question"
        transport.send(b"an answer")
        transport.close()
        assert early.recv(100) == b"an answer"
        assert early.recv(100) == b""
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


@pytest.mark.spec("SD-02")
@pytest.mark.parametrize("lacking", ["Linux", "filters"])
async def test_where_no_handshake_can_be_kept_out_who_comes_can_be_accepted(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listener,) = await bind(Config(port=0))
    with monkeypatch.context() as patch:
        if lacking == "Linux":
            patch.setattr(sys, "platform", "darwin")
        else:
            patch.setattr("stario_trio.server.sockets._SO_ATTACH_FILTER", 2**30)
        listener.refuse()
    with socket.create_connection(listener.address):  # type: ignore[arg-type]
        listener.accept().close()
    listener.close()


# Unix sockets


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "server.sock")


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.spec("SK-03")
@pytest.mark.usefixtures("strict_umask")
async def test_anybody_may_connect_to_a_unix_socket(path: str) -> None:
    async with live(("/", hello), unix_socket=path) as server:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        assert server.addresses == [path]
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"


@pytest.mark.spec("SK-03")
@pytest.mark.usefixtures("strict_umask")
async def test_the_mode_is_right_before_anybody_can_connect(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    class Spy(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            modes.append(stat.S_IMODE(os.stat(path).st_mode))
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Spy)
    (listener,) = await bind(Config(unix_socket=path))
    listener.close()
    assert modes == [0o666]


@pytest.mark.spec("SK-04")
async def test_a_stale_socket_file_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
        old.listen()
    async with live(("/", hello), unix_socket=path) as server, peer(server) as client:
        assert (await client.ask()).body == b"hello"
    assert not os.path.lexists(path)


@pytest.mark.upstream_bug(19)
@pytest.mark.spec("SK-04")
@pytest.mark.parametrize("what", ["file", "directory", "link to nothing", "link to a stale socket"])
async def test_what_is_no_socket_is_refused_and_untouched(path: str, what: str) -> None:
    if what == "file":
        with open(path, "w") as file:
            file.write("precious")
    elif what == "directory":
        os.mkdir(path)
    elif what == "link to nothing":
        os.symlink("nothing", path)
    else:
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(path + ".old")
        os.symlink(path + ".old", path)
    before = os.lstat(path)
    with pytest.raises(StarioError) as info:
        await Server(app_of(), unix_socket=path).run()
    assert path in info.value.message
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)
    if what == "file":
        with open(path) as file:
            assert file.read() == "precious"


@pytest.mark.upstream_bug(19)
@pytest.mark.spec("SK-04")
async def test_a_socket_somebody_accepts_on_is_refused_and_goes_on(path: str) -> None:
    async with live(("/", hello), unix_socket=path) as server:
        with pytest.raises(StarioError, match="in use") as info:
            await Server(app_of(), unix_socket=path).run()
        assert path in info.value.message
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"


@pytest.mark.spec("SK-04")
async def test_a_full_backlog_is_somebody_too(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        waiting: list[socket.socket] = []
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                if client.connect_ex(path):
                    break
            with pytest.raises(StarioError, match="in use"):
                await bind(Config(unix_socket=path))
            assert os.path.lexists(path)
        finally:
            for client in waiting:
                client.close()


@pytest.mark.spec("SK-04")
async def test_a_datagram_socket_is_refused(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(StarioError, match="in use"):
            await bind(Config(unix_socket=path))
        assert os.path.lexists(path)


@pytest.mark.spec("SK-05")
async def test_the_file_is_gone_after_a_stop(path: str) -> None:
    async with live(("/", hello), unix_socket=path):
        assert os.path.lexists(path)
    assert not os.path.lexists(path)


@pytest.mark.spec("SK-05", "SD-17")
async def test_the_file_is_gone_after_an_outer_cancel(path: str) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(app_of(), unix_socket=path).run)
        assert os.path.lexists(path)
        nursery.cancel_scope.cancel()
    assert not os.path.lexists(path)


@pytest.mark.spec("SK-05", "SD-21")
async def test_the_file_is_gone_after_a_failure(path: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with live(("/", hello), unix_socket=path):
            _ = 1 / 0
    assert not os.path.lexists(path)


@pytest.mark.spec("SK-05", "ST-02")
@pytest.mark.parametrize("failing", ["chmod", "listen"])
async def test_the_file_is_gone_after_a_failing_start(path: str, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if failing == "chmod":
        monkeypatch.setattr(os, "chmod", fail)
    else:
        monkeypatch.setattr(socket.socket, "listen", fail)
    with pytest.raises(OSError, match=f"cannot listen on {path}: Operation not permitted"):
        await Server(app_of(), unix_socket=path).run()
    assert not os.path.lexists(path)


@pytest.mark.upstream_bug(19)
@pytest.mark.spec("SK-05")
async def test_another_servers_file_is_not_removed(path: str) -> None:
    async with live(("/", hello), unix_socket=path):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
        theirs = os.lstat(path).st_ino
    assert os.lstat(path).st_ino == theirs


@pytest.mark.spec("SK-05")
async def test_the_file_goes_while_its_inode_cannot_be_another_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts between our close and our removal would get our inode number, and lose its file."""
    (listener,) = await bind(Config(unix_socket=path))
    still_open: list[bool] = []
    unlink = os.unlink

    def spy(target: str) -> None:
        still_open.append(listener._sock.fileno() >= 0)
        unlink(target)

    monkeypatch.setattr(os, "unlink", spy)
    listener.close()
    assert still_open == [True]


@pytest.mark.spec("SK-05")
async def test_a_file_that_is_gone_already_is_no_trouble(path: str) -> None:
    async with live(("/", hello), unix_socket=path):
        os.unlink(path)


async def test_a_path_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    for name in ("missing/server.sock", "x" * 200):
        with pytest.raises(OSError, match=f"cannot listen on {tmp_path / name}"):
            await bind(Config(unix_socket=str(tmp_path / name)))


@pytest.mark.spec("SK-06")
@pytest.mark.parametrize("explicit", [{"host": "127.0.0.1"}, {"port": 8000}, {"host": "127.0.0.1", "port": 8000}])
async def test_unix_socket_and_an_explicit_address_exclude_each_other(path: str, explicit: dict[str, Any]) -> None:
    with pytest.raises(StarioError, match=" and ".join(explicit)):
        await app_of().serve(unix_socket=path, **explicit)
    with pytest.raises(StarioError, match=" and ".join(explicit)):
        Server(app_of(), unix_socket=path, **explicit)
    assert not os.path.lexists(path)


async def test_a_platform_without_unix_sockets(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(StarioError, match="not available on this platform"):
        await bind(Config(unix_socket=path))


@pytest.mark.upstream_bug(20)
async def test_backlog_counts_for_unix_sockets(path: str) -> None:
    (listener,) = await bind(Config(unix_socket=path, backlog=1))
    clients: list[socket.socket] = []
    refused = 0
    try:
        while not refused:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            refused = client.connect_ex(path)
            assert len(clients) < 10
    finally:
        listener.close()
        for client in clients:
            client.close()
    assert refused == errno.EAGAIN


# Out of descriptors


@pytest.mark.spec("SK-07")
async def test_a_failing_accept_pauses_and_is_reported(autojump_clock: object) -> None:
    async with stage(("/", hello)) as it:
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            before = it.now
            it.listener.fail(OSError(number, os.strerror(number)))
            client = it.get()
            assert b"hello" in await client.read_until(b"hello")
            assert it.now - before == pytest.approx(0.1)
            client.leave()
        assert len(it.troubles) == 4
        assert os.strerror(errno.EMFILE) in it.troubles[0]


@pytest.mark.spec("SK-07")
async def test_a_connection_that_was_lost_in_the_backlog_makes_no_pause(autojump_clock: object) -> None:
    async with stage(("/", hello)) as it:
        it.listener.fail(ConnectionAbortedError(errno.ECONNABORTED, "aborted"))
        client = it.get()
        await client.read_until(b"hello")
        client.leave()
        assert it.now == 0
        assert it.troubles == []


@pytest.mark.spec("SK-07", "SD-02")
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ECONNABORTED])
async def test_a_failing_accept_in_the_stop(error: int, autojump_clock: object) -> None:
    async with stage(("/", hello)) as it:
        it.stop()
        it.listener.fail(OSError(error, os.strerror(error)))
        client = it.connect(request())
        await client.wait_for(lambda: client.over)
        assert client.reset is (error == errno.EMFILE)
        assert len(it.troubles) == (error == errno.EMFILE)
        client.leave()


@pytest.mark.spec("SK-07")
async def test_out_of_descriptors_for_real() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with live(("/", hello)) as server:
        first = socket.create_connection(server.addresses[0])  # type: ignore[arg-type]
        with first, trio.fail_after(PATIENCE):
            spare = socket.socket()
            second = socket.socket()
            # No descriptor beyond those that are open now.
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare.fileno(), hard))
            try:
                fill: list[int] = []
                try:
                    while True:
                        fill.append(os.dup(0))
                except OSError:
                    pass
                second.connect(server.addresses[0])
                while not server.report.errors:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in fill:
                    os.close(fd)
            spare.close()
            # It goes on by itself, and the connection that waited is served.
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(second))
            await stream.send_all(request())
            assert b"hello" in await stream.receive_some()
            await stream.aclose()
    assert "accepting pauses" in server.report.errors[0]


async def test_the_listener_of_a_closed_port_refuses() -> None:
    listeners = await bind(Config(port=0))
    address = listeners[0].address
    assert isinstance(listeners[0], SocketListener)
    assert listeners[0].port == address[1]
    listeners[0].close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)  # type: ignore[arg-type]
