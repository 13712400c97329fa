"""A grid of real processes: Prosody and a manager on one host, each worker on a host of its own, people on another."""
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import enclosure

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOMAIN = "souk.test"
PEOPLE = ("ada", "bob", "cyd")  # ada sees everybody's jobs


class Program:
    """One long-lived process that is started again under the same name; its log goes on."""

    def __init__(self, name, host, line, log, env):
        self.name, self.host, self.line, self.log, self.env = name, host, line, log, env
        self.process, self.starts, self.lock = None, 0, threading.Lock()
        self.disk, self.tried = None, 0  # a Ballast, if it has a disk of its own
        self.unexpected = []  # ends nobody asked for

    def start(self):
        with self.lock:
            if self.process and self.process.poll() is None:
                return
            with open(self.log, "ab") as log:
                log.write(f"==== start {self.starts + 1} of {self.name} at {time.time():.3f}\n".encode())
                log.flush()
                self.process = subprocess.Popen(self.host.inside(self.line), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True)
            self.starts += 1
            self.ending = False

    def send(self, number):
        with self.lock:
            if self.process and self.process.poll() is None:
                self.ending = self.ending or number in (signal.SIGKILL, signal.SIGTERM)
                self.process.send_signal(number)

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def running(self):
        return self.process is not None and self.process.poll() is None

    def watch(self):
        """Says once when it has ended though nobody asked it to, and starts it again; one that cannot start without space on its disk is excused."""
        with self.lock:
            if not self.process or self.ending or self.process.poll() is None:
                return None
            code = self.process.returncode
        if code in (1, 3) and self.disk and self.disk.full_until > time.monotonic() - 3:
            if time.monotonic() - self.tried < 1:
                return None
            self.tried = time.monotonic()
            return self.start()
        self.unexpected.append(code)
        self.start()
        return f"{self.name} ended by itself with {code}"

    def family(self):
        return [self.process.pid, *enclosure.descendants(self.process.pid)] if self.running() else []

    def rss(self):
        try:
            return enclosure.Seen(self.process.pid).rss if self.running() else 0
        except OSError:
            return 0


class Grid:
    def __init__(self, folder, programs, workers, slots, lease_s, disk_mebibytes, manager_options=()):
        self.folder, self.programs, self.lease_s = folder, programs, lease_s
        self.log = os.path.join(folder, "log")
        self.ledger = os.path.join(folder, "ledger")
        for path in (self.log, self.ledger):
            os.makedirs(path)
        self.enclosed = enclosure.has_namespaces()
        self.network = enclosure.Network() if self.enclosed else None
        self.market = enclosure.Host(self.network, "market", "10.99.0.1" if self.enclosed else "127.0.0.1")
        self.people = enclosure.Host(self.network, "people", "10.99.0.2")
        self.disks = {}
        self.set_up()
        home = os.path.join(folder, "home")
        os.makedirs(home)
        # PATH as it is: tasks need a shell and coreutils only.
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": home, "LANG": "C.UTF-8", "TMPDIR": home, "SOUK_TORTURE_MARK": folder,
                    **{key: value for key, value in os.environ.items() if key.endswith("SAN_OPTIONS")}}
        self.manager_state = os.path.join(folder, "manager-disk")
        if self.enclosed:
            enclosure.tmpfs(self.manager_state, disk_mebibytes)
            self.disks["manager"] = enclosure.Ballast(self.manager_state)
        state = os.path.join(self.manager_state, "state")
        os.makedirs(state)
        self.store = os.path.join(state, "grid.sqlite")
        self.server = self.program("server", self.market, ["prosody", "-F", "--config", self.at("server/prosody.cfg.lua")])
        self.manager = self.program("manager", self.market, [self.bin("souk-manager"), "--profile", self.at("manager/manager.toml"), "--state", state, "--allow", DOMAIN,
                                                             "--allow-worker", "worker@" + DOMAIN, "--admin", "ada@" + DOMAIN, "--lease-s", str(lease_s), *manager_options])
        self.manager.disk = self.disks.get("manager")
        self.workers = []
        states = "--state" in subprocess.run([self.bin("souk-worker"), "--help"], stdout=subprocess.PIPE, timeout=20).stdout.decode()
        for number in range(1, workers + 1):
            name = f"w{number}"
            host = enclosure.Host(self.network, name, f"10.99.0.{10 + number}")
            disk = os.path.join(folder, "workers", name)
            os.makedirs(disk)
            if self.enclosed and number <= 2:
                enclosure.tmpfs(disk, 64)
                self.disks[name] = enclosure.Ballast(disk)
            work = os.path.join(disk, "work")
            os.makedirs(work, mode=0o700)
            line = [self.bin("souk-worker"), "--profile", self.at("worker/worker.toml"), "--slots", str(slots), "--work", work, "--name", name, "--speed", "1", "--sandbox", "none", "--log-level", "debug"]
            self.workers.append(self.program(name, host, line + (["--state", os.path.join(disk, "state")] if states else [])))
            self.workers[-1].work, self.workers[-1].disk = work, self.disks.get(name)
        self.live = {}  # pid -> (process, what) of people's programs
        self.live_lock = threading.Lock()

    def at(self, path):
        return os.path.join(self.folder, "grid", path)

    def bin(self, program):
        return os.path.join(self.programs, program)

    def program(self, name, host, line):
        return Program(name, host, line, os.path.join(self.log, name + ".log"), self.env)

    def set_up(self):
        """Accounts, certificates, profiles: as a grid of several machines gets them (docker/README.md)."""
        env = {**os.environ, "DOMAIN": DOMAIN, "SERVER": self.market.address, "USER_NAME": PEOPLE[0], "SOUK_BIN": self.programs}
        if not self.enclosed:
            ports = free_ports(3)
            env.update(CLIENT_PORT=str(ports[0]), COMPONENT_PORT=str(ports[1]), UPLOAD_PORT=str(ports[2]))
        done = subprocess.run(["sh", os.path.join(ROOT, "docker", "setup"), os.path.join(self.folder, "grid")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        if done.returncode:
            raise RuntimeError("docker/setup: " + done.stdout.decode(errors="replace"))
        config = self.at("server/prosody.cfg.lua")
        with open(config) as file:
            text = file.read()
        with open(config, "w") as file:
            file.write(text if self.enclosed else f'interfaces = {{ "127.0.0.1" }}\n' + text)
        accounts = self.at("server/data/souk%2etest/accounts")
        for name in PEOPLE:
            folder = os.path.join(self.folder, "grid", name)
            shutil.copytree(self.at("user"), folder)
            if name != PEOPLE[0]:  # the same password
                shutil.copy(os.path.join(accounts, PEOPLE[0] + ".dat"), os.path.join(accounts, name + ".dat"))
            with open(os.path.join(folder, "user.toml")) as file:
                profile = file.read()
            with open(os.path.join(folder, "user.toml"), "w") as file:
                file.write(profile.replace(f"{PEOPLE[0]}@", f"{name}@"))

    def souk(self, who, *words, what=None, timeout=None, cwd=None):
        """Runs the command line as a person; (exit code, stdout, stderr), with None for one that did not end in time."""
        line = self.people.inside([self.bin("souk"), "--profile", self.at(f"{who}/user.toml"), *map(str, words)])
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, start_new_session=True, cwd=cwd)
        if what:
            with self.live_lock:
                self.live[process.pid] = (process, what)
        try:
            out, err = process.communicate(timeout=timeout)
            return process.returncode, out, err.decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return None, out, err.decode(errors="replace")
        finally:
            with self.live_lock:
                self.live.pop(process.pid, None)

    def ask(self, *words, timeout=60):
        """A question of ada's that must be answered; its JSON objects."""
        code, out, err = self.souk(PEOPLE[0], *words, "--json", timeout=timeout)
        if code not in (0, 1):
            raise RuntimeError(f"souk {' '.join(map(str, words))}: exit {code}, {err.strip()} {out[-500:]!r}")
        return [json.loads(line) for line in out.splitlines()]

    def everything(self):
        return [self.server, self.manager, *self.workers]

    def present(self):
        """Workers in the market, by name."""
        try:
            return {worker["worker"] for worker in self.ask("workers", timeout=20)}
        except (RuntimeError, ValueError):
            return set()

    def start(self):
        self.server.start()
        until(lambda: reachable(self.market, self), "the server listens", 20)
        self.manager.start()
        for worker in self.workers:
            worker.start()
        until(lambda: len(self.present()) == len(self.workers), "all workers are in the market", 30)

    def stop(self):
        """In order and politely; what did not end in time."""
        late = []
        for stage in ([*self.workers], [self.manager], [self.server]):
            for program in stage:
                program.send(signal.SIGTERM)
            end = time.monotonic() + 10
            for program in stage:
                if program.process and program.wait(max(0.1, end - time.monotonic())) is None:
                    late.append(program.name)
                    program.send(signal.SIGKILL)
                    program.wait(5)
        return late


def reachable(host, grid):
    with open(grid.at("worker/worker.toml")) as file:
        port = next(line.split("=")[1].strip() for line in file if line.startswith("port"))
    check = f"import socket; socket.create_connection(('{host.address}', {port}), 1)"
    return subprocess.run(grid.people.inside(["/usr/bin/env", "python3", "-c", check]), stderr=subprocess.DEVNULL).returncode == 0


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(true, what, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.05)
    raise RuntimeError(f"never happened within {seconds} s: {what}")
