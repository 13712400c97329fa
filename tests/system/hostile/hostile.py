"""For stories in which somebody has bad intentions: a server with neighbours, what honest people still get, and what it costs."""
import asyncio
import glob
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stories"))
from grid import HOSTED, SOUK, Grid  # noqa: E402,F401
from slixmpp.xmlstream.handler import Callback  # noqa: E402
from slixmpp.xmlstream.matcher import MatchXPath  # noqa: E402

SERVICE = "grid.souk.localhost"
MANAGER = "manager@grid.souk.localhost/souk"
ROOM = "market@rooms.souk.localhost" if HOSTED else "market@grid.souk.localhost"
PATIENCE = 10  # seconds an honest person's task of a few milliseconds may take while somebody floods the grid; 0.1 s without, and 1 to 2 s are usual


def server_with(more="", accounts=(), replaced=()):
    """Makes `souk up` run Prosody with more configuration, accounts (name, domain, password) of other domains, and some of its settings replaced."""
    folder = tempfile.mkdtemp(prefix="souk server ")
    with open(os.path.join(folder, "more.lua"), "w") as file:
        file.write(more)
    encoded = lambda text: "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02x}" for b in text.encode())
    for name, domain, password in accounts:
        place = os.path.join(folder, "data", encoded(domain), "accounts")
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, encoded(name) + ".dat"), "w") as file:
            file.write(f'return {{ ["password"] = "{password}" }};\n')
    os.makedirs(os.path.join(folder, "data"), exist_ok=True)
    program = os.path.join(folder, "prosody")
    with open(program, "w") as file:
        file.write("#!/bin/sh\nset -e\n"
                   'data=$(sed -n \'s/^data_path = "\\(.*\\)"/\\1/p\' "$3")\n'
                   f'mkdir -p "$data"; cp -r "{folder}/data/." "$data"\n'
                   "sed " + " ".join(f"-e 's/{old}/{new}/'" for old, new in (("^$", ""), *replaced)) + ' "$3" >"$3.more.lua"\n'
                   f'cat "{folder}/more.lua" >>"$3.more.lua"\n'
                   'exec prosody -F --config "$3.more.lua"\n')
    os.chmod(program, stat.S_IRWXU)
    os.environ["SOUK_PROSODY"] = program


async def enters(person, nick):
    """Into the room: `in`, or the condition of the refusal. slixmpp knows some refusals of room services only by waiting for them."""
    heard = asyncio.get_running_loop().create_future()

    def on_presence(presence):
        codes = {one.get("code") for one in presence.xml.iter("{http://jabber.org/protocol/muc#user}status")}
        if presence["from"].bare == ROOM and not heard.done() and (presence["type"] == "error" or ("110" in codes and presence["type"] != "unavailable")):
            heard.set_result(presence["error"]["condition"] if presence["type"] == "error" else "in")
    person.client.register_handler(Callback("enters", MatchXPath("{jabber:client}presence"), on_presence))
    person.client.send_raw(f"<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    try:
        return await asyncio.wait_for(heard, 20)
    finally:
        person.client.remove_handler("enters")


class Honest:
    """Somebody who runs small tasks on the honest worker all the time: each must bring its own result, soon."""

    def __init__(self, grid):
        self.grid, self.took, self.wrong, self.over = grid, [], [], False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        number = 0
        while not self.over:
            number += 1
            begun = time.monotonic()
            try:
                done = self.grid.souk("run", "--require", 'name == "worker-1"', "--array", "1-2", "--shell", f"echo {number}.{{}}")
                if done.text != f"{number}.1\n{number}.2\n":
                    self.wrong.append(done)
            except AssertionError as failed:
                self.wrong.append(failed)
            self.took.append(time.monotonic() - begun)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over = True
        self.thread.join()
        if kind is None:
            assert not self.wrong, self.wrong[:2]
            assert self.took and max(self.took) < PATIENCE, self.took


class Cost:
    """What all of it cost the manager and the honest worker: they live on, and neither their memory nor their logs grew much."""

    def __init__(self, grid, manager_mib=64, worker_mib=32, log_kib=256):
        self.grid, self.most, self.log_kib = grid, {"manager": manager_mib, "worker-1": worker_mib}, log_kib
        self.before = {name: (grid.pid(name), self.memory(name), self.log(name)) for name in self.most}

    def processor(self, name):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.grid.pid(name)}/stat") as file:
            parts = file.read().rsplit(")", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name):
        with open(f"/proc/{self.grid.pid(name)}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024  # the most it ever was

    def log(self, name):
        return sum(os.path.getsize(path) for path in glob.glob(os.path.join(glob.escape(self.grid.folder), "log", name + ".log*"))) / 1024

    def check(self, same_life=True):
        for name, (pid, memory, log) in self.before.items():
            assert not same_life or self.grid.pid(name) == pid, f"{name} ended"
            assert self.memory(name) - memory < self.most[name], f"{name}: {memory:.0f} MiB became {self.memory(name):.0f} MiB"
            assert self.log(name) - log < self.log_kib, f"{name}: its log grew by {self.log(name) - log:.0f} KiB"


class OnAGrid(unittest.IsolatedAsyncioTestCase):
    """Stories on one grid with one honest worker and `people` besides; each is told what it may cost."""
    options, people = (), ()

    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--workers", 1, "--slots", 2, *cls.options)
        for name in cls.people:
            assert cls.grid.souk("user", "add", name).code == 0
        cls.grid.souk("run", "true")

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)
        self.cost = Cost(self.grid)
        self.go = os.path.join(self.grid.folder, "go " + self.id())

    def held(self, then):
        """A command that ends when it may."""
        return f"until test -e '{self.go}'; do sleep 0.05; done; {then}"

    def may_end(self):
        with open(self.go, "w"):
            pass


def sanitized():
    """Whether the programs watch themselves while they run, and so take several times as long."""
    return "san.so" in subprocess.run(["ldd", SOUK], capture_output=True, text=True).stdout


def log_of(grid, name):
    with open(os.path.join(grid.folder, "log", name + ".log"), errors="replace") as file:
        return file.read()
