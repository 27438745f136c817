"""Who is compared, how each is started, and how it gets here. The settings are those that its documentation has for a
container's only app; where there is one for stops that reach the app's children too, it has a row of its own."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CIRCUS = ROOT / "target/compare/circus"
CIRCUS_WANTED = ["circus==0.19.0", "pyzmq==27.3.0", "tornado==6.6.1", "psutil==7.2.2"]
PYTHON = "/usr/bin/python3"
# What Debian's python3 consists of.
PYTHON_PACKAGES = ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"]

SUPERVISORD = """[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile={dir}/pid
[program:app]
command={command}
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
autorestart=false
startsecs=0
"""
SUPERVISORD_GROUP = SUPERVISORD + "stopasgroup=true\nkillasgroup=true\n"

CIRCUSD = """[circus]
endpoint = ipc://{dir}/endpoint
pubsub_endpoint = ipc://{dir}/pubsub
[watcher:app]
cmd = {command}
copy_env = True
stdout_stream.class = StdoutStream
graceful_timeout = 10
respawn = False
"""
CIRCUSD_CHILDREN = CIRCUSD + "stop_children = True\n"


@dataclass
class Contender:
    """`command` makes the words that run an app, with a directory for files. Size in bytes. `relays_within`: how long a
    stop that it passes on may take to reach the app, in seconds; supervisord and circusd look once a second."""

    name: str
    command: Callable[[Path, list[str]], list[str]]
    package: str = ""
    size: Callable[[], int] | None = None
    env: dict[str, str] = field(default_factory=dict)
    relays_within: float = 0.2

    @property
    def is_bare(self):
        return self.name == "no init"

    @property
    def is_drained(self):
        return self.name.endswith("drain")


def contenders(lastword, tcp, http):
    """All, with the ports of two receivers."""
    return [
        Contender("no init", prefix()),
        binary("lastword", lastword, "--"),
        binary("lastword, TCP drain", lastword, "--drain", f"syslog+tcp://127.0.0.1:{tcp}", "--"),
        binary("lastword, HTTP drain", lastword, "--drain", f"http://127.0.0.1:{http}/", "--"),
        binary("tini", "/usr/bin/tini", "--", package="tini"),
        binary("tini -g", "/usr/bin/tini", "-g", "--", package="tini"),
        binary("dumb-init", "/usr/bin/dumb-init", "--", package="dumb-init"),
        binary("catatonit", "/usr/bin/catatonit", "--", package="catatonit"),
        supervisord("supervisord", SUPERVISORD),
        supervisord("supervisord, groups", SUPERVISORD_GROUP),
        circusd("circusd", CIRCUSD),
        circusd("circusd, children", CIRCUSD_CHILDREN),
    ]


def binary(name, path, *options, package=""):
    return Contender(name, prefix(path, *options), package, lambda: os.stat(path).st_size)


def supervisord(name, text):
    command = configured(text, "/usr/bin/supervisord", "-c")
    packages = [*PYTHON_PACKAGES, "supervisor", "python3-pkg-resources"]
    return Contender(name, command, "supervisor", lambda: installed_size(*packages), relays_within=1.5)


def circusd(name, text):
    command = configured(text, PYTHON, "-c", "from circus.circusd import main; main()")
    return Contender(name, command, "circus", lambda: installed_size(*PYTHON_PACKAGES) + tree_size(CIRCUS),
                     {"PYTHONPATH": str(CIRCUS)}, relays_within=1.5)


def prefix(*words):
    return lambda _, app: [*words, *app]


def configured(text, *words):
    """For those that want the app in a file: there it is a script without arguments, which needs no rules of quoting."""

    def command(directory, app):
        script, conf = directory / "app", directory / "conf"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(app)}\n")
        script.chmod(0o755)
        conf.write_text(text.format(dir=directory, command=script))
        return [*words, str(conf)]

    return command


def install(packages):
    """Gets those that are missing."""
    debian = sorted({package for package in packages if package} - {"circus"} | {"util-linux"})
    missing = [package for package in debian if not version(package)]
    apt = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=180"]
    if missing and subprocess.run([*apt, *missing], stdout=sys.stderr).returncode:
        subprocess.run(["apt-get", "update"], stdout=sys.stderr, check=True)
        subprocess.run([*apt, *missing], stdout=sys.stderr, check=True)
    mark = CIRCUS / "installed"
    if "circus" in packages and (not mark.exists() or mark.read_text() != str(CIRCUS_WANTED)):
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade",
               "--root-user-action=ignore"]
        CIRCUS.mkdir(parents=True, exist_ok=True)
        subprocess.run([*pip, "--target", CIRCUS, *CIRCUS_WANTED], stdout=sys.stderr, check=True)
        mark.write_text(str(CIRCUS_WANTED))


def version(package):
    """Of an installed Debian package, or of circus; None if it is missing."""
    if package == "circus":
        return CIRCUS_WANTED[0].split("==")[1]
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Version}", package]
    words = subprocess.run(query, capture_output=True, text=True).stdout.split()
    return words[1] if words[:1] == ["ii"] else None


def installed_size(*packages):
    query = ["dpkg-query", "--show", "--showformat=${Installed-Size} ", *packages]
    return sum(int(kib) << 10 for kib in subprocess.check_output(query, text=True).split())


def tree_size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
