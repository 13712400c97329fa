"""What goes wrong, when and for how long, worked out from the seed alone; and how it is done to real processes."""
import heapq
import os
import random
import signal
import subprocess
import time

import enclosure

# kind: (how often, what it takes)
KINDS = {
    "worker-kill": (13, ""), "worker-term": (5, ""), "worker-freeze": (5, ""), "worker-freeze-long": (5, ""), "runner-kill": (5, ""),
    "manager-kill": (9, ""), "manager-term": (2, ""), "manager-freeze": (3, ""), "manager-freeze-long": (3, ""),
    "server-kill": (4, ""), "server-term": (2, ""), "server-freeze": (3, ""),
    "submitter-kill": (6, ""), "submitter-interrupt": (3, ""),
    "cut-in": (4, "cut"), "cut-out": (4, "cut"), "cut": (4, "cut"), "cut-group": (3, "cut"), "cut-hard": (2, "cut"), "cut-manager": (4, "cut"), "cut-people": (3, "cut"),
    "loss": (3, "lose"), "delay": (3, "cut"), "disk-manager": (4, "disk"), "disk-worker": (4, "disk"),
}
# Faults that no task is to notice: what runs goes on and is adopted, so that it runs once.
ADOPTION = ("manager-kill", "manager-term", "server-kill", "server-term", "submitter-kill")
HARD_CUT_FROM = 180  # seconds: only longer runs have room for a cut that outlasts every patience of a link
IMPAIRED_MAX = 4     # of six workers at a time


class Fault:
    def __init__(self, at, kind, target, lasts, how):
        self.at, self.kind, self.target, self.lasts, self.how = at, kind, target, lasts, how

    def __str__(self):
        return f"{self.kind} {self.target}".strip() + (f" for {self.lasts:.1f} s" if self.lasts else "") + (f" ({self.how})" if self.how else "")


def schedule(seed, seconds, kinds, workers, lease_s, gap, adoption_until):
    """All faults of a run in their order. kinds: those that may happen; adoption_until: before that only those of ADOPTION."""
    r = random.Random(f"faults/{seed}")
    faults, busy, now = [], {}, 1.0
    while True:
        now += r.expovariate(1 / gap) if r.random() > 0.22 else r.random() * 0.2  # now and then two at once
        if now >= seconds:
            return faults
        impaired = {name for name, until in busy.items() if until > now and name.startswith("w")}
        possible = [kind for kind in kinds if (now >= adoption_until or kind in ADOPTION) and (kind != "cut-hard" or seconds >= HARD_CUT_FROM)]
        for _ in range(20 if possible else 0):  # until it is one of something that is well
            fault = make(r, now, r.choices(possible, [KINDS[kind][0] for kind in possible])[0], workers, lease_s)
            names = fault.target.split(",")
            if all(busy.get(name, 0) <= now for name in names) and (not fault.target.startswith("w") or len(impaired | set(names)) <= IMPAIRED_MAX):
                break
        else:
            continue
        if now < adoption_until and fault.lasts:
            fault.lasts = min(fault.lasts, 2)  # the manager waits 10 s for those it knew
        for name in names:
            busy[name] = now + fault.lasts + 0.5
        faults.append(fault)


def make(r, at, kind, workers, lease_s):
    worker = f"w{r.randrange(workers) + 1}"
    how, lasts, target = "", 0, worker
    if kind == "worker-kill":
        lasts = r.choice([0, r.random() * 2, r.random() * 8])
    elif kind == "worker-term":
        lasts = 1 + r.random() * 4
    elif kind == "worker-freeze":
        lasts, how = 0.2 + r.random() * lease_s * 0.4, r.choice(["", "with all it runs"])
    elif kind == "worker-freeze-long":
        lasts, how = lease_s + 1 + r.random() * 8, r.choice(["", "with all it runs"])
    elif kind == "manager-kill":
        lasts, target = r.choice([0, 0.3, r.random() * 4]), "manager"
    elif kind == "manager-term":
        lasts, target = r.random() * 2, "manager"
    elif kind == "manager-freeze":
        lasts, target = 0.2 + r.random() * 2, "manager"
    elif kind == "manager-freeze-long":
        lasts, target = lease_s + r.random() * 8, "manager"
    elif kind in ("server-kill", "server-term"):
        lasts, target = r.choice([0.1, r.random() * 4]), "server"
    elif kind == "server-freeze":
        lasts, target = 0.3 + r.random() * 5, "server"
    elif kind.startswith("submitter"):
        target = ""
        how = f"draw {r.randrange(1000)}"
    elif kind in ("cut-in", "cut-out", "cut"):
        lasts = r.choice([0.5 + r.random() * 2, lease_s + r.random() * 8])
    elif kind == "cut-group":
        first = r.randrange(workers - 2) + 1
        target, lasts = ",".join(f"w{first + n}" for n in range(3)), 2 + r.random() * 8
        how = r.choice(["in", "out", "both"])
    elif kind == "cut-hard":
        lasts, how = 35 + r.random() * 15, r.choice(["in", "out", "both"])
    elif kind == "cut-manager":
        lasts, target, how = 0.5 + r.random() * 10, "manager", r.choice(["in", "out", "both"])
    elif kind == "cut-people":
        lasts, target, how = 0.5 + r.random() * 8, "people", r.choice(["in", "out", "both"])
    elif kind == "loss":
        lasts, how = 3 + r.random() * 8, f"{r.choice([5, 15, 35])} % of packets"
    elif kind == "delay":
        lasts, how = 3 + r.random() * 8, f"{r.choice([200, 700, 2000])} ms"
    elif kind == "disk-manager":
        lasts, target = 1 + r.random() * 7, "manager-disk"
    elif kind == "disk-worker":
        lasts, target = 1 + r.random() * 9, f"disk of w{r.randrange(2) + 1}"
    return Fault(at, kind, target, lasts, how)


class Injector:
    """Does faults, and undoes them in time."""

    def __init__(self, grid, say):
        self.grid, self.say = grid, say
        self.programs = {program.name: program for program in grid.everything()}
        self.heals = []  # (when, number, what it is, call)
        self.count = 0
        self.done = []   # (time by the clock, fault, what came of it)
        self.over = False

    def available(self):
        """Kinds of fault that can be done here, and a word about those that cannot."""
        network = self.grid.network
        able = {"": True, "cut": bool(network and network.can_cut), "lose": bool(network and network.can_lose), "disk": bool(self.grid.disks)}
        return [kind for kind, (_, takes) in KINDS.items() if able[takes]], [kind for kind, (_, takes) in KINDS.items() if not able[takes]]

    def later(self, seconds, what, call):
        self.count += 1
        heapq.heappush(self.heals, (time.monotonic() + seconds, self.count, what, call))

    def heal_due(self, now):
        while self.heals and self.heals[0][0] <= now:
            heapq.heappop(self.heals)[3]()

    def heal_all(self):
        self.over = True
        while self.heals:
            heapq.heappop(self.heals)[3]()

    def next_due(self):
        return self.heals[0][0] if self.heals else None

    def do(self, fault):
        began = time.time()
        word = getattr(self, fault.kind.split("-")[0])(fault)
        self.done.append((began, fault, word))
        return word

    # --- Processes

    def worker(self, fault):
        program = self.programs[fault.target]
        if fault.kind == "worker-kill":
            program.send(signal.SIGKILL)
            return self.start_later(program, fault.lasts)
        if fault.kind == "worker-term":
            program.send(signal.SIGTERM)
            return self.start_later(program, fault.lasts)
        return self.freeze(program, fault)

    def manager(self, fault):
        return self.freeze(self.programs["manager"], fault) if "freeze" in fault.kind else self.end(self.programs["manager"], fault)

    def server(self, fault):
        return self.freeze(self.programs["server"], fault) if "freeze" in fault.kind else self.end(self.programs["server"], fault)

    def end(self, program, fault):
        program.send(signal.SIGKILL if fault.kind.endswith("kill") else signal.SIGTERM)
        return self.start_later(program, fault.lasts)

    def start_later(self, program, seconds):
        def start():
            if program.wait(8) is None:  # asked to stop, and does not
                self.say(f"  {program.name} does not end when asked to")
                program.unexpected.append("does not end")
                program.send(signal.SIGKILL)
                program.wait(5)
            program.start()
        self.later(seconds, f"start {program.name}", start)

    def freeze(self, program, fault):
        pids = program.family() if fault.how else [program.process.pid] if program.running() else []

        def tell(number):
            for pid in pids:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        tell(signal.SIGSTOP)
        self.later(fault.lasts, f"thaw {program.name}", lambda: tell(signal.SIGCONT))

    def runner(self, fault):
        program = self.programs[fault.target]
        runners = [process for process in enclosure.descendants(program.process.pid).values() if process.name.startswith("souk-runner")] if program.running() else []
        if not runners:
            return "there was none"
        # Its children first in the list are those of the worker itself: those that keep the slots.
        os.kill(min(runners, key=lambda each: each.started).pid, signal.SIGKILL)

    def submitter(self, fault):
        with self.grid.live_lock:
            live = sorted(self.grid.live.items())
        if not live:
            return "there was none"
        pid, (process, (word, job)) = live[int(fault.how.split()[1]) % len(live)]
        process.send_signal(signal.SIGKILL if fault.kind == "submitter-kill" else signal.SIGINT)
        return f"souk {word} of {job.name}"

    # --- Network

    def cut(self, fault):
        if fault.kind == "cut-manager":
            port = ["-i", "lo", "-p", "tcp"], ["--dport", "5347"], ["--sport", "5347"]
            rules = {"out": [port[1]], "in": [port[2]], "both": [port[1], port[2]]}[fault.how]
            return self.drop(self.grid.market, [("INPUT", port[0] + rule) for rule in rules], fault)
        ways = fault.how or {"cut-in": "in", "cut-out": "out", "cut": "both"}[fault.kind]
        chains = {"in": ["INPUT"], "out": ["OUTPUT"], "both": ["INPUT", "OUTPUT"]}[ways]
        for name in fault.target.split(","):
            self.drop(self.host(name), [(chain, []) for chain in chains], fault)

    def host(self, name):
        return self.grid.people if name == "people" else self.programs[name].host

    def drop(self, host, rules, fault):
        for chain, words in rules:
            host.rule(True, chain, *words)
            self.later(fault.lasts, f"heal {host.name}", lambda chain=chain, words=words: host.rule(False, chain, *words))

    def loss(self, fault):
        words = ["-m", "statistic", "--mode", "random", "--probability", str(int(fault.how.split()[0]) / 100)]
        self.drop(self.host(fault.target), [("INPUT", words), ("OUTPUT", words)], fault)

    def delay(self, fault):
        """By netem; where the kernel has none, the line goes dead for so long, again and again, and TCP sends what was lost anew."""
        host, ms = self.host(fault.target), int(fault.how.split()[0])
        if self.grid.network.can_delay:
            enclosure.sh(*host.inside(["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{ms}ms", f"{ms // 4}ms"]))
            return self.later(fault.lasts, f"heal {host.name}", lambda: enclosure.sh(*host.inside(["tc", "qdisc", "del", "dev", "eth0", "root"])))
        end = time.monotonic() + fault.lasts

        def dead():
            if self.over or time.monotonic() >= end:
                return
            host.rule(True, "OUTPUT")
            self.later(ms / 1000, f"heal {host.name}", alive)

        def alive():
            host.rule(False, "OUTPUT")
            self.later(0.15, f"stutter {host.name}", dead)
        dead()

    # --- Disks

    def disk(self, fault):
        disk = self.grid.disks["manager" if fault.kind == "disk-manager" else fault.target.split()[-1]]
        disk.fill()
        self.later(fault.lasts, f"free {fault.target}", disk.free)
