"""Where the torture happens: namespaces of its own for processes, mounts and network, so that nothing it does reaches anybody else and
nothing it starts can outlive it. Where the system does not permit them, the same processes run on the loopback, and faults that need
namespaces are left out."""
import ctypes
import os
import signal
import subprocess
import sys
import time

INSIDE = "SOUK_TORTURE_INSIDE"  # `namespaces` or `loopback`
PR_SET_CHILD_SUBREAPER = 36


def find_way():
    """The command line that makes namespaces here, and why there is none."""
    wanted = "ip link add souk0 type bridge && ip link add souk1 type veth peer name souk2 && mount -t tmpfs -o size=1m none /mnt && unshare --net true && nsenter --net=/proc/self/ns/net true"
    for program in ("unshare", "nsenter", "ip"):
        if subprocess.run(["sh", "-c", "command -v " + program], stdout=subprocess.DEVNULL).returncode:
            return None, f"there is no program `{program}` (packages util-linux, iproute2)"
    way = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    why = ""
    for line in (way, [*way, "--user", "--map-root-user"]):  # root in a container may have to do as everybody
        try:
            tried = subprocess.run([*line, "sh", "-c", wanted], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20)
        except subprocess.TimeoutExpired:
            why = "the attempt to make namespaces hung"
            continue
        if tried.returncode == 0:
            return line, ""
        why = (tried.stderr.decode(errors="replace").strip().splitlines() or ["unshare was refused"])[-1]
    return None, why


def enter(loopback):
    """Runs this program again inside, and ends with its exit code; returns once inside, as a child of a process that takes in orphans."""
    if INSIDE not in os.environ:
        way, why = (None, "asked to") if loopback else find_way()
        if not way:
            os.environ[INSIDE] = "loopback"
            print(f"torture: on the loopback, without cuts, delays and full disks: {why}", file=sys.stderr, flush=True)
        else:
            inside = subprocess.Popen([*way, sys.executable, *sys.argv], env={**os.environ, INSIDE: "namespaces"})
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: inside.kill() if number != signal.SIGINT else None)  # a Ctrl-C reaches it by itself
            sys.exit(inside.wait())
    if os.environ[INSIDE] == "loopback":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    driver = os.fork()
    if driver == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(driver, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == driver:
            break
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def has_namespaces():
    return os.environ[INSIDE] == "namespaces"


class Seen:
    """One process, as /proc tells."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
        name, rest = line[line.index(b"(") + 1:line.rindex(b")")], line[line.rindex(b")") + 2:].split()
        self.pid, self.name, self.state, self.parent, self.started = pid, name.decode(errors="replace"), rest[0].decode(), int(rest[1]), int(rest[19])
        self.rss = int(rest[21]) * os.sysconf("SC_PAGESIZE")

    def __repr__(self):
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:160]
        except OSError:
            words = "?"
        return f"{self.pid} {self.name} state {self.state} parent {self.parent}: {words}"


def processes():
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[int(entry)] = Seen(int(entry))
        except (OSError, ValueError):
            pass
    return found


def descendants(pid):
    children = {}
    for process in processes().values():
        children.setdefault(process.parent, []).append(process)
    found, todo = {}, [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found[child.pid] = child
            todo.append(child.pid)
    return found


class Host:
    """A network of its own with one address; what happens to its packets is up to rules."""

    def __init__(self, network, name, address):
        self.network, self.name, self.address = network, name, address
        self.veth, self.fd = "v-" + name, None
        if network is None:
            return
        holder = subprocess.Popen(["unshare", "--net", "sleep", "60"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            time.sleep(0.002)
        self.fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        holder.kill()
        holder.wait()
        sh("ip", "link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.path())
        sh("ip", "link", "set", self.veth, "master", "market", "up")
        for line in (["ip", "addr", "add", address + "/24", "dev", "eth0"], ["ip", "link", "set", "eth0", "up"], ["ip", "link", "set", "lo", "up"]):
            sh(*self.inside(line))

    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def inside(self, line):
        """The same command line, run on this host."""
        return list(line) if self.fd is None else ["nsenter", "--net=" + self.path(), "--", *line]

    def rule(self, add, chain, *words):
        sh(*self.inside(["iptables", "-w", "-A" if add else "-D", chain, *words, "-j", "DROP"]))


class Network:
    """A switch; hosts are plugged in. None of it is seen from outside."""

    def __init__(self):
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "market", "type", "bridge")
        sh("ip", "link", "set", "market", "up")
        probe = Host(self, "probe", "10.99.0.250")
        self.can_cut = quiet(*probe.inside(["iptables", "-w", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"]))
        self.can_lose = quiet(*probe.inside(["iptables", "-w", "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP"]))
        self.can_delay = quiet(*probe.inside(["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "10ms"]))
        sh("ip", "link", "del", probe.veth)


def quiet(*line):
    try:
        return subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20).returncode == 0
    except OSError:
        return False


def sh(*line):
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}: {done.stdout.decode(errors='replace').strip()}")


def tmpfs(path, mebibytes):
    os.makedirs(path, exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "none", path)


class Ballast:
    """A file that takes what is left of a disk."""

    def __init__(self, folder):
        self.path, self.full_until = os.path.join(folder, "ballast"), 0

    def fill(self):
        self.full_until = float("inf")
        with open(self.path, "wb") as file:
            size, step = 0, 1 << 26
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:
                    step //= 2

    def free(self):
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self.full_until = min(self.full_until, time.monotonic())
