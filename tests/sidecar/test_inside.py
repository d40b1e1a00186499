"""Inside a real worker, started by the keeper: what it can no longer do, and what it still can."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.decompression import zstd_library
from collector.ingest.grpc import METHODS
from collector.sandbox import seccomp, support
from collector.sandbox.attempts import ATTEMPTS
from tests.conftest import required, required_root
from tests.sandbox.test_attempts import FAMILIES, REFUSED
from tests.sandbox.test_kernel_log import kernel_log
from tests.sandbox.test_seccomp import refused_arguments, refused_numbers
from tests.sidecar.inside import Inside, inside, post, requests
from tests.sidecar.marks import Marks
from tests.sidecar.swept import prepared, send
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.failing_disk import metric
from tests.support.sidecar import Sidecar, UnixConnection

_STATUSES = [b"200", b"400", b"200", b"200", b"400", b"200", b"200", b"404"]
_THREADS = pytest.mark.parametrize("where", ["main", "thread"])


@pytest.fixture(scope="module", autouse=True)
def _kernel() -> None:
    if lacks := support().lacks:
        required(" and ".join(lacks))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Inside]]:
    """A sidecar whose worker has shown what it can do, over all receivers."""
    folder = tmp_path_factory.mktemp("inside")
    with inside(folder, {"COLLECTOR__HTTP__UNIX": str(folder / "socket")}) as both:
        yield both


@pytest.fixture
def worker(running: tuple[Sidecar, Inside]) -> Inside:
    """The worker from inside."""
    return running[1]


# -- what is forbidden ----------------------------------------------------------------------------


@_THREADS
def test_everything_forbidden_is_refused(worker: Inside, where: str) -> None:
    """Each attempt of the table, which covers all families, as a system call through ctypes."""
    code = """
    table = sys.modules["collector.sandbox.attempts"].ATTEMPTS
    found["tried"] = [(each.family, each.what, each.error()) for each in table]
    """
    tried = worker.do(code, where)["tried"]
    assert {family for family, _, _ in tried} == set(FAMILIES)
    assert len(tried) == len(ATTEMPTS) > 150
    assert [row for row in tried if row[2] not in REFUSED] == []


@_THREADS
def test_every_other_call_is_refused(worker: Inside, where: str) -> None:
    rows = [*([number, *[-1] * 6] for number in refused_numbers()), *refused_arguments()]
    code = f"""
    libc = ctypes.CDLL(None, use_errno=True)
    found["errors"] = []
    for row in {rows!r}:
        ctypes.set_errno(0)
        done = libc.syscall(*(ctypes.c_ulong(each & (1 << 64) - 1) for each in row))
        found["errors"].append(ctypes.get_errno() if done == -1 else 0)
    """
    errors = worker.do(code, where)["errors"]
    assert set(errors) == {errno.EPERM, errno.ENOSYS}
    unknown = {row[0] for row, each in zip(rows, errors, strict=True) if each == errno.ENOSYS}
    assert unknown == {435, *range(seccomp._NEWEST + 1, 2048)}


_TRIES = {
    "read a file": "open(FILE).read()",
    "write a file": "open(FOLDER + '/made', 'w')",
    "append to a file": "open(FILE, 'a')",
    "a temporary file": "tempfile.TemporaryFile(dir=FOLDER)",
    "list a folder": "os.listdir(FOLDER)",
    "make a folder": "os.mkdir(FOLDER + '/made')",
    "look at a file": "os.stat(FILE)",
    "remove a file": "os.remove(FILE)",
    "move a file": "os.rename(FILE, FOLDER + '/made')",
    "link to a file": "os.link(FILE, FOLDER + '/made')",
    "change a file's mode": "os.chmod(FILE, 0o777)",
    "a database": "sqlite3.connect(FOLDER + '/made.db').execute('CREATE TABLE a (b)')",
    "a time zone": "zoneinfo.ZoneInfo.no_cache('Europe/Berlin')",
    "this program's memory": "open('/proc/self/mem', 'r+b')",
    "the keeper's memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "the keeper's files": "os.listdir(f'/proc/{os.getppid()}/fd')",
    "a module": "__import__('this')",
    "connect": "socket.create_connection(('127.0.0.1', PORT), 1)",
    "connect to a socket file": "socket.socket(socket.AF_UNIX).connect(FOLDER + '/line')",
    "send a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "look up a name": "socket.getaddrinfo('example.org', 80)",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "ask a server": "urllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=1)",
    "send elsewhere by the channel": "socket.socket(fileno=os.dup(3)).sendto(b'', 0, FILE)",
    "start a program": "subprocess.run(['/bin/true'])",
    "start a shell": "os.system('true') and raise_(OSError)",
    "fork": "os.fork()",
    "become a program": "os.execv('/bin/true', ['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "end the keeper": "os.kill(os.getppid(), 9)",
    "end all": "os.kill(-1, 0)",
    "a file in memory": "os.memfd_create('x')",
    "memory for code": "mmap.mmap(-1, 4096, prot=7)",
    "a pipe with a name": "os.mkfifo(FOLDER + '/made')",
    "another directory": "os.chdir('/')",
    "another user": "os.setuid(65534)",
    "a namespace": "ctypes.CDLL(None).unshare(0) and raise_(OSError)",
    "turn core dumps on": "sys.modules['resource'].setrlimit(4, (0, 0))",
}
"""Expressions that a program might contain."""
_OTHER_ERRORS = {
    "a database": "OperationalError",
    "a module": "ModuleNotFoundError",
    "a time zone": "ZoneInfoNotFoundError",
    "turn core dumps on": "ValueError",
}
"""How some of them fail other than by a system error."""


@_THREADS
def test_nothing_that_a_program_tries_succeeds(
    running: tuple[Sidecar, Inside], where: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as there:
        there.settimeout(0.5)
        names = {"FILE": str(file), "FOLDER": str(tmp_path), "PORT": there.getsockname()[1]}
        code = f"""
        def raise_(kind):
            raise kind
        names = {{**globals(), **{names!r}, "raise_": raise_}}
        for name, text in {_TRIES!r}.items():
            try:
                eval(text, names)
            except OSError as error:
                found[name] = "OSError"
            except Exception as error:
                found[name] = type(error).__name__
        """
        found = running[1].do(code, where)
        with pytest.raises(TimeoutError):
            there.accept()
    assert found.keys() == _TRIES.keys()
    assert {name: each for name, each in found.items() if each != "OSError"} == _OTHER_ERRORS
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "kept"


def test_all_threads_are_confined(worker: Inside) -> None:
    """Library threads from before the confinement too; and no thread can gain privileges."""
    found = []
    for thread in Path(f"/proc/{worker.pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found.append((thread / "status").read_text())
    assert len(found) > 4
    for status in found:
        assert "\nSeccomp:\t2\n" in status
        assert "\nNoNewPrivs:\t1\n" in status


def test_a_worker_names_none_of_its_threads(worker: Inside) -> None:
    assert _renamed(worker) == ([], [])
    names = set()
    for thread in Path(f"/proc/{worker.pid}/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended
            names.add((thread / "comm").read_text())
    assert names
    assert not any("canary" in name for name in names)


_RENAME = """
libc = ctypes.CDLL(None, use_errno=True)
libc.pthread_self.restype = ctypes.c_ulong
own = ctypes.c_ulong(libc.pthread_self())
calls = [libc.prctl(15, b"canary", 0, 0, 0), libc.pthread_setname_np(own, b"canary")]
found["done"] = [each for each in calls if each == 0]
found["opened"] = []
for path in ("self", "thread-self", *(f"self/task/{n}" for n in THREADS)):
    try:
        with open(f"/proc/{path}/comm", "wb") as file:
            found["opened"].append(file.write(b"canary"))
    except OSError:
        pass
"""


def _renamed(worker: Inside) -> tuple[list[int], list[int]]:
    """Try every way to name its threads; return the calls and the files that allow it."""
    threads = [each.name for each in Path(f"/proc/{worker.pid}/task").iterdir()]
    code = _RENAME.replace("THREADS", repr(threads))
    tried = [worker.do(code, where) for where in ("main", "thread")]
    done, opened = ([one for each in tried for one in each[name]] for name in ("done", "opened"))
    return done, opened


@pytest.mark.long
def test_a_worker_that_faults_logs_no_chosen_name(tmp_path: Path) -> None:
    """The kernel logs the fault under the name with which the worker was started. Another worker
    takes its place."""
    fault = """
    import signal
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    threading.Timer(0.1, lambda: ctypes.string_at(8)).start()
    """
    with kernel_log() as log, inside(tmp_path) as (sidecar, worker):
        assert _renamed(worker) == ([], [])
        worker.do(fault)
        wait_until(lambda: any(each["event"] == "worker_replaced" for each in sidecar.events))
        if not eventually(lambda: "segfault at 8 " in log(), 2):
            pytest.skip("the kernel does not log faults here (debug.exception-trace)")
        assert "canary" not in log()


def test_a_worker_has_sockets_and_nothing_else(worker: Inside) -> None:
    """It has no file, and no pipe to another process."""
    required_root()
    folder = Path(f"/proc/{worker.pid}/fd")
    opened = set()
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # it is already closed
            opened.add(str(path.readlink()).partition(":")[0])
    assert "socket" in opened
    assert opened <= {"/dev/null", "socket", "anon_inode", "pipe"}
    environ = Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert b"COLLECTOR__" not in environ


# -- what works -----------------------------------------------------------------------------------


def _head(kind: str, coding: str) -> dict[str, str]:
    return {"Content-Type": kind, "Content-Encoding": coding}


def _ways(sidecar: Sidecar) -> None:
    """Use everything over HTTP, over a Unix socket and over gRPC, with more requests at once than
    threads."""
    sent = list(requests(zstd_library().compress))
    answers = [post(sidecar.ports["http"], None, *each) for each in sent]
    assert [answer.split()[1] for answer in answers] == _STATUSES
    connection = UnixConnection(sidecar.directory / "socket")
    for (kind, coding, path, body), status in zip(sent, _STATUSES, strict=True):
        connection.request("POST", path, body, _head(kind, coding))
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (int(status), True)
    connection.close()
    body = b'{"os": {"name": "Linux"}}\n' * 20_000
    for encoding, packed in (
        ("zstd", zstd_library().compress(body)),
        ("gzip", gzip.compress(body)),
    ):
        head = _head("application/x-ndjson", encoding)
        assert sidecar.request("POST", "/v1/events", packed, head).status in (200, 413)
    place = f"127.0.0.1:{sidecar.ports['grpc']}"
    with grpc.insecure_channel(place) as channel, ThreadPoolExecutor(8) as pool:
        call = channel.unary_unary(next(iter(METHODS)))
        kinds = [None, grpc.Compression.Gzip, grpc.Compression.Deflate] * 8
        called = pool.map(lambda kind: call(b"", timeout=60, compression=kind), kinds)
        assert list(called) == [b""] * 24


def test_what_it_is_for(running: tuple[Sidecar, Inside]) -> None:
    """It receives every form, is measured, and reports errors."""
    sidecar, worker = running
    _ways(sidecar)
    name = 'collector_request_duration_seconds_count{receiver="%s",status="%s"}'
    least = {("http", "2xx"): 10, ("http", "4xx"): 6, ("grpc", "2xx"): 24}
    # Counts that a worker did not report in time follow later.
    wait_until(lambda: all(metric(sidecar, name % key) >= least[key] for key in least))
    code = """
    from collector.errors import ConfigError
    def fail():
        raise ConfigError("E203", "a secret value")
    asyncio.get_running_loop().call_soon(fail)
    threading.Thread(target=fail).start()
    """
    worker.do(code)
    wait_until(lambda: any(each["event"] == "unexpected" for each in sidecar.events))
    (said,) = (
        each for each in sidecar.events if each["event"] == "unexpected" and each["times"] == 1
    )
    assert (said["error"], said["place"]) == ("ConfigError", "elsewhere")
    assert "secret" not in "".join(sidecar.log)
    assert b"[+] sandbox ok\n" in sidecar.admin("/readyz?verbose").body


@pytest.mark.long
def test_tls_and_a_graceful_stop(tmp_path: Path) -> None:
    """Handshakes of HTTP and gRPC work; a request that is incomplete at the stop is refused."""
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    issued.key.chmod(0o600)
    settings = {
        "COLLECTOR__TLS__CERTIFICATE": str(issued.certificate),
        "COLLECTOR__TLS__KEY": str(issued.key),
    }
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    with inside(tmp_path, settings) as (sidecar, _):
        for each, status in zip(requests(zstd_library().compress), _STATUSES, strict=True):
            assert post(sidecar.ports["http"], context, *each).split()[1] == status
        trusted = grpc.ssl_channel_credentials(authority.own.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{sidecar.ports['grpc']}", trusted) as channel:
            assert channel.unary_unary(next(iter(METHODS)))(b"", timeout=60) == b""
        place = ("127.0.0.1", sidecar.ports["http"])
        body = b'{"ip": "203.0.113.7"}'
        head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with (
            socket.create_connection(place, WAIT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as line,
        ):
            line.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
            codes: list[int] = []
            stopping = Thread(target=lambda: codes.append(sidecar.stop()[0]))
            stopping.start()
            answer = line.recv(1 << 16)
            assert (answer.split()[1], b"E425" in answer) == (b"503", True)
        stopping.join(WAIT_SECONDS)
    assert codes == [0]


@pytest.mark.long
def test_nothing_is_imported_once_it_is_confined(tmp_path: Path) -> None:
    marks = Marks()
    settings = prepared(
        tmp_path,
        {
            "COLLECTOR__HTTP__PREFERENCES": "true",
            "COLLECTOR__HTTP__UNIX": str(tmp_path / "socket"),
        },
    )
    with inside(tmp_path, settings, is_bare=True) as (sidecar, worker):
        send(sidecar, marks, tmp_path / "seen", {"User-Agent": marks.text("user agent")})
        _ways(sidecar)
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            sidecar.request(method, "/preferences", b"", {"Cookie": "collector-preferences=x"})
        sidecar.admin("/metrics")
        assert worker.imported() == []
        assert sidecar.stop()[0] == 0


@pytest.mark.long
def test_an_import_would_be_seen(worker: Inside) -> None:
    code = """
    try:
        import antigravity
    except ImportError:
        pass
    found["imported"] = list(imported)
    """
    assert "antigravity" in worker.do(code)["imported"]
