"""A grid made by hand, as it is on several machines: server, managers and workers are processes of their own, each maybe in a network namespace of its own
with a cable to the server's that can be cut without anybody being told. SOUK, SOUK_MANAGER and SOUK_WORKER name the programs."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stories"))
import issue
from grid import Done, HOSTED, until

PROGRAM = {"souk": os.environ["SOUK"], "manager": os.environ["SOUK_MANAGER"], "worker": os.environ["SOUK_WORKER"]}
DOMAIN = "souk.test"
WAIT = 60


def can_cut():
    """Whether this user may make namespaces and filters; else the reason."""
    for tool in ("ip", "iptables", "openssl"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    name = f"soukprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return "no network namespaces: " + made.stderr.strip()
    try:
        filtered = subprocess.run(["ip", "netns", "exec", name, "iptables", "-w", "-A", "INPUT", "-i", "none", "-j", "DROP"], capture_output=True, text=True)
        return "" if filtered.returncode == 0 else "no packet filter: " + filtered.stderr.strip()
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def main(why, server="prosody"):
    """Runs the stories of a file. why: the machine cannot, and they are skipped; empty: it can, if it has the server"""
    why = why or ("" if shutil.which("prosody" if server == "prosody" else "erl") else f"there is no {server}")
    if why:
        print("skipped: " + why)
        sys.exit(77)
    unittest.main(verbosity=2)


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lua_name(text):
    return "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in text)


def write_whole(path, text):
    """A program that was started a moment ago may be about to read the file: it is never seen empty."""
    with open(path + ".new", "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    os.replace(path + ".new", path)


class Site:
    """server: Prosody. Every account is made beforehand; the password of each is its name."""

    def __init__(self, accounts, cables=(), server_lines=""):
        self.folder = tempfile.mkdtemp(prefix="souk site ")
        self.cables = {name: number for number, name in enumerate(cables, 1)}
        self.accounts = ["ada", "boss", *accounts]
        self.processes, self.logs, self.server = {}, {}, None
        self.tag = f"s{os.getpid() % 100000}"
        try:
            self.lay_cables()
            self.write_server(server_lines)
            self.start_server()
        except BaseException:
            self.close()
            raise

    def path(self, *names):
        return os.path.join(self.folder, *names)

    # ---- Network
    def space(self, who):
        return f"{self.tag}{who}"

    def address(self, who):  # of the server as `who` sees it
        return f"10.177.{self.cables[who]}.1" if who in self.cables else "127.0.0.1"

    def lay_cables(self):
        if not self.cables:
            return
        run("ip", "netns", "add", self.space("srv"))
        run("ip", "-n", self.space("srv"), "link", "set", "lo", "up")
        for name, number in self.cables.items():
            here, there = f"v{number}", f"w{number}"
            run("ip", "netns", "add", self.space(name))
            run("ip", "link", "add", here, "netns", self.space("srv"), "type", "veth", "peer", "name", there, "netns", self.space(name))
            for space, end, address in ((self.space("srv"), here, 1), (self.space(name), there, 2)):
                run("ip", "-n", space, "addr", "add", f"10.177.{number}.{address}/24", "dev", end)
                run("ip", "-n", space, "link", "set", end, "up")
                run("ip", "-n", space, "link", "set", "lo", "up")

    def cut(self, who, up=True, down=True):
        """From now on packets vanish: up to the server, down from it. Nobody is told; dropped where they arrive, so that no send fails."""
        for wanted, space, end in ((up, self.space("srv"), f"v{self.cables[who]}"), (down, self.space(who), f"w{self.cables[who]}")):
            if wanted:
                run("ip", "netns", "exec", space, "iptables", "-w", "-A", "INPUT", "-i", end, "-j", "DROP")

    def heal(self, who):
        for space in (self.space("srv"), self.space(who)):
            subprocess.run(["ip", "netns", "exec", space, "iptables", "-w", "-F", "INPUT"], capture_output=True)
        # `srv` may have had rules for others: tests cut one at a time.

    # ---- Programs
    def popen(self, name, words, cable=None, log=True, **more):
        if self.cables:
            words = ["ip", "netns", "exec", self.space(cable if cable in self.cables else "srv"), *words]
        if log:
            self.logs[name] = self.path(name + ".log")
            with open(self.logs[name], "ab") as file:
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **more)
            self.processes[name] = process
            return process
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def log(self, name):
        try:
            with open(self.logs[name], errors="replace") as file:
                return file.read()
        except (KeyError, OSError):
            return ""

    def all_logs(self):
        return "".join(f"== {name}\n{self.log(name)[-6000:]}\n" for name in self.logs)

    def write_server(self, lines):
        self.port, self.component_port = (5222, 5347) if self.cables else (free_port(), free_port())
        certificates = ""
        if self.cables:  # off loopback all streams use TLS
            issue.authority(self.folder), issue.certificate(self.folder, DOMAIN)
            certificates = f"ssl = {{ key = '{self.path('server.key')}'; certificate = '{self.path('server.crt')}' }}\n"
        for name in self.accounts:
            folder = self.path("data", lua_name(DOMAIN), "accounts")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, lua_name(name) + ".dat"), "w") as file:
                file.write(f'return {{ ["password"] = "{name}" }};\n')
        with open(self.path("server.cfg.lua"), "w") as file:
            file.write(f"""data_path = '{self.path('data')}'
run_as_root = true
pidfile = '{self.path('server.pid')}'
log = {{ {{ levels = {{ min = 'info' }}, to = 'console' }} }}
network_settings = {{ nagle = false; min_wait = 0; read_retry_delay = 0; tcp_backlog = 1024 }}
interfaces = {{ {"'*'" if self.cables else "'127.0.0.1'"} }}; component_interfaces = {{ '127.0.0.1' }}
c2s_ports = {{ {self.port} }}; component_ports = {{ {self.component_port} }}
c2s_direct_tls_ports = {{}}; legacy_ssl_ports = {{}}; s2s_ports = {{}}; s2s_direct_tls_ports = {{}}; http_ports = {{}}; https_ports = {{}}
modules_enabled = {{ 'saslauth', 'disco', 'ping', 'tls', 'presence', 'message', 'iq', 'roster', 'offline' }}
modules_disabled = {{ 's2s', 's2s_auth_certs', 'limits' }}
authentication = 'internal_plain'; storage = 'internal'
c2s_require_encryption = false; allow_unencrypted_plain_auth = true
c2s_stanza_size_limit = 1048576; component_stanza_size_limit = 1048576
{certificates}{lines}
VirtualHost '{DOMAIN}'
Component 'rooms.{DOMAIN}' 'muc'
Component 'grid.{DOMAIN}'
  component_secret = 'secret'
""")

    def start_server(self):
        before = self.log("server").count("Activated service")
        self.server = self.popen("server", ["prosody", "-F", "--config", self.path("server.cfg.lua")])
        until(lambda: self.log("server").count("Activated service 'c2s'") and self.log("server").count("Activated service") >= before + 2, "the server listens", 30)

    def profile(self, name, jid, manager, cable=None, component=False):
        os.makedirs(self.path("profiles"), exist_ok=True)
        password = self.path("profiles", name + ".password")
        write_whole(password, "secret" if component else jid.split("@")[0])
        path = self.path("profiles", name + ".toml")
        component_manager = manager == self.COMPONENT  # which can serve the market itself
        text = f"""jid = "{jid}"
password_file = "{password}"
component = {"true" if component else "false"}
host = "{self.address(cable)}"
port = {self.component_port if component else self.port}
manager = "{manager}"
room = "market@{"grid" if component_manager and not HOSTED else "rooms"}.{DOMAIN}"
"""
        if cable in self.cables:
            text += f'ca_file = "{self.path("ca.pem")}"\n'
        write_whole(path, text)
        return path

    COMPONENT = f"manager@grid.{DOMAIN}/souk"
    ACCOUNT = f"boss@{DOMAIN}/souk"

    def manager(self, name="manager", store=None, jid=COMPONENT, cable=None, lease=4, options=()):
        component = jid == self.COMPONENT
        profile = self.profile(name, f"grid.{DOMAIN}" if component else jid, jid, cable, component)
        words = [PROGRAM["manager"], "--profile", profile, "--state", store or self.path("store"), "--lease-s", lease, "--log-level", "debug", "--allow", DOMAIN, "--allow-worker", DOMAIN]
        return self.popen(name, [*map(str, words), *map(str, options)], cable)

    def worker(self, name, jid=COMPONENT, cable=None, slots=1, options=()):
        profile = self.profile(name, f"{name}@{DOMAIN}", jid, cable)
        words = [PROGRAM["worker"], "--profile", profile, "--slots", slots, "--work", self.path("work " + name), "--name", name, "--sandbox", "none", "--log-level", "debug", *options]
        return self.popen(name, [*map(str, words)], cable)

    def words(self, *words, jid=COMPONENT):
        return [PROGRAM["souk"], "--profile", self.profile("ada", f"ada@{DOMAIN}", jid), *map(str, words)]

    def start(self, *words, jid=COMPONENT):
        return self.popen("souk", self.words(*words, jid=jid), log=False)

    def finish(self, process):
        try:
            out, err = process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{process.args} did not end: {out[-1000:]!r} {err[-1000:]!r}\n{self.all_logs()}")
        return Done(process.returncode, out, err)

    def souk(self, *words, jid=COMPONENT):
        return self.finish(self.start(*words, jid=jid))

    def submit(self, *words, jid=COMPONENT):
        done = self.souk("submit", *words, jid=jid)
        assert done.code == 0, (done, self.all_logs())
        return int(done.out)

    def job(self, number, jid=COMPONENT):
        done = self.souk("job", number, "--json", jid=jid)
        assert done.code == 0, (done, self.all_logs())
        return done.json[0]

    def workers(self, count, jid=COMPONENT):
        until(lambda: len(self.souk("workers", "--json", jid=jid).json) == count, f"{count} workers are in the market")

    def freeze(self, name):
        os.kill(self.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name):
        os.kill(self.processes[name].pid, signal.SIGCONT)

    def end(self, name, with_signal=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(with_signal)
        return process.wait(timeout=20)

    def close(self):
        for name, process in reversed(list(self.processes.items())):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM if name != "server" else signal.SIGKILL)
        end = time.monotonic() + 8
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.cables:
            for who in ("srv", *self.cables):
                subprocess.run(["ip", "netns", "del", self.space(who)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Marks:
    """Tasks that leave a mark at every start: what ran how often, whatever anybody says."""

    def __init__(self, site):
        self.folder, self.go = site.path("marks"), site.path("go")
        os.makedirs(self.folder, exist_ok=True)

    def command(self, meanwhile):
        return f"echo $SOUK_WORKER >> '{self.folder}'/$SOUK_JOB.{{}}; {meanwhile}; echo out {{}}"

    def lasting(self, seconds):
        return self.command(f"sleep {seconds}")

    def held(self):
        """They end when those that their worker runs may."""
        return self.command(f"until test -e '{self.go}.'$SOUK_WORKER; do sleep 0.05; done")

    def may_end(self, *workers):
        for worker in workers:
            with open(f"{self.go}.{worker}", "w"):
                pass

    def starts(self, job):
        found = {}
        for name in os.listdir(self.folder):
            number, item = name.split(".")
            if int(number) == job:
                with open(os.path.join(self.folder, name)) as file:
                    found[int(item)] = file.read().split()
        return found
