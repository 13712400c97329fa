#!/usr/bin/env python3
"""Runs a grid of real processes, breaks it again and again by a seed, heals it, and checks that nothing was lost."""
import argparse
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import enclosure
from books import Books, Ledger
from faults import ADOPTION, KINDS, Injector, schedule
from grid import PEOPLE, ROOT, Grid, until
from recovery import Recovery
from work import Person

SETTLE_S = 120      # until everything must have ended after everything was healed
RETURN_S = 75       # until all workers must be back, then
ADOPTION_SHARE = 0.2  # of a run, at its beginning: only faults that no task is to notice


def options():
    parser = argparse.ArgumentParser(prog="scripts/torture", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__, epilog=f"""
Kinds of fault: {', '.join(KINDS)}.
Names may have wildcards: worker-*, *-kill. Without the rights for network namespaces (root, or unprivileged user namespaces) it runs
on the loopback, without cuts, losses and full disks.

Examples:
  scripts/torture                                 a minute, seed 1
  scripts/torture --minutes 10 --seed 42 --measure 5
  scripts/torture --only manager-kill,server-*    every task must run exactly once
  scripts/torture --seed 7 --keep                 the same faults again; logs and store stay
  scripts/torture --schedule --seed 7             only prints what would happen
Exit code: 0 nothing was lost, 1 something is wrong (the folder is kept, its path is printed), 2 usage.""")
    parser.add_argument("--minutes", type=float, default=1, metavar="M", help="how long faults happen (default 1); healing and checking take some 20 s more")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what happens, and what people submit (default 1)")
    parser.add_argument("--only", default="", metavar="KINDS", help="only these kinds of fault, separated by commas")
    parser.add_argument("--without", default="", metavar="KINDS", help="none of these kinds")
    parser.add_argument("--gap", type=float, default=2.2, metavar="S", help="seconds between faults, on average (default 2.2)")
    parser.add_argument("--workers", type=int, default=6, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--slots", type=int, default=2, metavar="N", help="slots of each worker (default 2)")
    parser.add_argument("--lease-s", type=float, default=4, metavar="S", help="the manager's lease (default 4)")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="then measure each time of recovery N times, on a quiet grid")
    parser.add_argument("--bin", default="", metavar="DIR", help="folder of the programs (default: build/release/bin or build/dev/bin, whichever is newer)")
    parser.add_argument("--folder", default="", metavar="DIR", help="where the folder of the run is made (default: the system's for temporary files)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run even when all is well")
    parser.add_argument("--loopback", action="store_true", help="use no namespaces even where they are permitted")
    parser.add_argument("--schedule", action="store_true", help="only print the faults of this seed")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object at the end, everything else on stderr")
    chosen = parser.parse_args()
    chosen.kinds = [kind for kind in KINDS if (not chosen.only or matches(kind, chosen.only)) and not (chosen.without and matches(kind, chosen.without))]
    for text in (chosen.only, chosen.without):
        for name in filter(None, text.split(",")):
            if not any(matches(kind, name) for kind in KINDS):
                parser.error(f"there is no kind of fault '{name}'; known are: {', '.join(KINDS)}")
    chosen.bin = chosen.bin or newest_programs()
    if not chosen.bin or not os.access(os.path.join(chosen.bin, "souk-manager"), os.X_OK):
        parser.error("the programs are not built: scripts/build, or --bin DIR")
    return chosen


def matches(kind, names):
    return any(fnmatch.fnmatchcase(kind, name) for name in names.split(","))


def newest_programs():
    found = [os.path.join(ROOT, "build", preset, "bin") for preset in ("release", "dev")]
    found = [path for path in found if os.path.exists(os.path.join(path, "souk-manager"))]
    return max(found, key=lambda path: os.path.getmtime(os.path.join(path, "souk-manager")), default="")


class Torture:
    def __init__(self, chosen):
        self.chosen, self.began = chosen, time.monotonic()
        self.seconds = chosen.minutes * 60
        self.folder = tempfile.mkdtemp(prefix="souk torture ", dir=chosen.folder or None)  # with spaces, as people have them
        self.rss_max, self.people, self.adopted_until = 0, [], 0
        self.out = sys.stderr if chosen.json else sys.stdout

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f}  {text}", file=self.out, flush=True)

    def run(self):
        chosen = self.chosen
        self.grid = Grid(self.folder, chosen.bin, chosen.workers, chosen.slots, chosen.lease_s, 160 + int(48 * chosen.minutes))
        self.injector = Injector(self.grid, self.say)
        able, unable = self.injector.available()
        kinds = [kind for kind in chosen.kinds if kind in able]
        left_out = [kind for kind in chosen.kinds if kind in unable]
        if left_out:
            self.say(f"cannot be done here: {', '.join(left_out)}")
        adoption_only = all(kind in ADOPTION for kind in kinds)
        adoption_s = self.seconds if adoption_only else self.seconds * ADOPTION_SHARE if set(kinds) & set(ADOPTION) else 0
        faults = schedule(chosen.seed, self.seconds, kinds, chosen.workers, chosen.lease_s, chosen.gap, adoption_s)
        self.say(f"seed {chosen.seed}, {len(faults)} faults in {self.seconds:.0f} s, programs of {chosen.bin}, in {self.folder}")
        self.grid.start()
        self.say("the grid runs")
        self.people = [Person(who, self.grid, chosen.seed) for who in PEOPLE]
        for person in self.people:
            person.start()
        start = time.monotonic()
        self.adopted_until = time.time() + (1e9 if adoption_only else adoption_s)
        self.torment(start, faults)
        self.say("no more faults; everything is healed, and started where it does not run")
        self.injector.heal_all()
        for program in self.grid.everything():
            program.start()
        for person in self.people:
            person.stopping.set()
        healed = time.monotonic()
        self.settle()
        self.settled_s, self.returned_s = self.settled_at - healed, time.monotonic() - healed
        self.say(f"everything has ended, {self.settled_s:.1f} s after it was healed; all workers were back after {self.returned_s:.1f} s")

    def torment(self, start, faults):
        faults = list(faults)
        told = start
        while True:
            now = time.monotonic()
            self.injector.heal_due(now)
            while faults and faults[0].at <= now - start:
                fault = faults.pop(0)
                word = self.injector.do(fault)
                self.say(f"{fault}" + (f": {word}" if word else ""))
            if now - start >= self.seconds:
                return
            if now - told >= 15:
                told = now
                self.progress()
            self.watch()
            upcoming = [now + 0.2, start + self.seconds] + ([start + faults[0].at] if faults else []) + ([self.injector.next_due()] if self.injector.heals else [])
            time.sleep(max(0, min(upcoming) - time.monotonic()))

    def watch(self):
        self.rss_max = max(self.rss_max, self.grid.manager.rss())
        for program in self.grid.everything():
            if said := program.watch():
                self.say("!! " + said)

    def jobs(self):
        return [job for person in self.people for job in list(person.jobs)]

    def progress(self):
        jobs = self.jobs()
        self.say(f"-- {len(jobs)} jobs, {sum(job.state == 'over' for job in jobs)} of them over; {len(self.injector.done)} faults; manager {self.rss_max >> 20} MiB at most")

    def settle(self):
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self.watch()
            if not any(person.is_alive() for person in self.people) and not any(thread.is_alive() for person in self.people for thread in person.threads):
                break
            time.sleep(0.1)
        else:
            raise Hang("people still wait: " + "; ".join(f"{job.name} ({job.kind}, job {job.number}) is at {job.state}" for job in self.jobs() if job.state != "over"))
        open_jobs = None
        while time.monotonic() < end:
            self.watch()
            try:
                open_jobs = [row for row in self.grid.ask("jobs", "--all", "--limit", 500, timeout=30) if row["state"] not in ("succeeded", "failed", "canceled")]
            except (RuntimeError, ValueError) as error:
                open_jobs = str(error)
            if open_jobs == []:
                break
            time.sleep(0.2)
        else:
            raise Hang(f"jobs that do not end: {open_jobs}")
        self.settled_at = time.monotonic()
        # Who met a server that was away again and again comes back within 30 s, and hands over what it kept.
        names = {worker.name for worker in self.grid.workers}
        while not names <= self.grid.present():
            self.watch()
            if time.monotonic() > self.settled_at + RETURN_S:
                raise Hang(f"workers that do not come back: {sorted(names - self.grid.present())}")
            time.sleep(0.3)
        time.sleep(0.5)

    def diagnose(self):
        """What a person would ask."""
        for words in (["workers"], ["jobs", "--all", "--limit", "40"]):
            code, out, err = self.grid.souk(PEOPLE[0], *words, timeout=20)
            print(f"--- souk {' '.join(words)}: exit {code}\n{out.decode(errors='replace')}{err}", file=self.out)
        for job in [job for job in self.jobs() if job.state != "over" and job.number][:5]:
            code, out, err = self.grid.souk(PEOPLE[0], "why", job.number, timeout=20)
            print(f"--- souk why {job.number}: exit {code}\n{out.decode(errors='replace')}{err}", file=self.out)
        for program in self.grid.everything():
            with open(program.log, errors="replace") as file:
                print(f"--- {program.log}, {'running' if program.running() else 'not running'}\n" + "".join(file.readlines()[-12:]), file=self.out)

    def recovery_under_load(self):
        """Of workers killed while others broke too: an upper bound, with waiting for a free slot in it."""
        ledger, seconds = Ledger(self.grid.ledger), []
        plain = {task.key for job in self.jobs() if job.kind != "rerun" for task in job.tasks}  # what people run again was in no hurry
        for when, fault, _ in self.injector.done:
            if fault.kind != "worker-kill":
                continue
            for key, runs in ledger.runs.items():
                if key not in plain:
                    continue
                before = [run for run in runs if run[5] < when]
                after = [run for run in runs if run[5] >= when and run[0] == "start"]
                if before and after and before[-1][0] == "start" and before[-1][1] == fault.target:
                    seconds.append(after[0][5] - when)
                    if os.environ.get("SOUK_TORTURE_NOTES") and seconds[-1] > 10:
                        print(f"  note {key}: {seconds[-1]:.1f} s after {fault} at {when:.1f}: {runs}", file=self.out)
        return sorted(seconds)


class Hang(Exception):
    pass


def main():
    chosen = options()
    if chosen.schedule:
        for fault in schedule(chosen.seed, chosen.minutes * 60, chosen.kinds, chosen.workers, chosen.lease_s, chosen.gap, chosen.minutes * 60 * ADOPTION_SHARE):
            print(f"{fault.at:7.1f}  {fault}")
        return 0
    enclosure.enter(chosen.loopback)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    torture = Torture(chosen)
    books = recovery = None
    wrong, down = [], False
    try:
        torture.run()
        books = Books(torture.grid, torture.jobs(), torture.injector.done)
        books.check(torture.adopted_until)
        torture.say(f"the books are checked: {len(books.wrong)} findings")
        recovery = Recovery(torture.grid, torture.say)
        if chosen.measure:
            recovery.measure(chosen.measure)
        late = torture.grid.stop()
        down = True
        books.check_nothing_left(late)
        books.check_store()
        books.check_spools()
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
        if not isinstance(error, (Hang, RuntimeError)):
            import traceback
            traceback.print_exc(file=torture.out)
        if hasattr(torture, "grid") and not down:
            torture.diagnose()
            torture.grid.stop()
    if books is None and hasattr(torture, "grid"):
        books = Books(torture.grid, torture.jobs(), torture.injector.done)
        books.wrong += [f"{job.name}: {text}" for job in torture.jobs() for text in job.wrong]
    if books:
        books.check_logs()
        books.check_programs(torture.rss_max)
        wrong += books.wrong
    return report(torture, books, recovery, wrong)


def report(torture, books, recovery, wrong):
    out, chosen = torture.out, torture.chosen
    by_kind = {}
    for _, fault, word in torture.injector.done if hasattr(torture, "injector") else []:
        if word != "there was none":
            by_kind[fault.kind] = by_kind.get(fault.kind, 0) + 1
    figures = {"seed": chosen.seed, "seconds": round(torture.seconds), "faults": sum(by_kind.values()), "faults by kind": by_kind, **(books.figures if books else {}),
               "s until all had ended after healing": round(getattr(torture, "settled_s", -1), 1), "s until all workers were back": round(getattr(torture, "returned_s", -1), 1), "recovery": recovery.figures() if recovery else {}}
    if hasattr(torture, "grid") and (under_load := torture.recovery_under_load()):
        figures["recovery"]["worker kill -9 -> its task started elsewhere, amid other faults"] = {"n": len(under_load), "median_s": round(under_load[len(under_load) // 2], 3), "most_s": round(under_load[-1], 3)}
    print(file=out)
    for what, value in figures.items():
        if isinstance(value, dict):
            for name, count in sorted(value.items()):
                print(f"  {what if what != 'faults by kind' else 'fault':>10}  {name:<66} {count if isinstance(count, (int, str)) else ', '.join(f'{k} {v}' for k, v in count.items())}", file=out)
        else:
            print(f"  {what:<78} {value}", file=out)
    if os.environ.get("SOUK_TORTURE_NOTES") and books:
        for job in books.jobs:
            for note in job.notes:
                print(f"  note {job.name}: {note}", file=out)
    for text in wrong[:60]:
        print("WRONG: " + text, file=out)
    if len(wrong) > 60:
        print(f"... and {len(wrong) - 60} more", file=out)
    if wrong or chosen.keep:
        if hasattr(torture, "grid") and torture.grid.disks:  # its mounts go away with us
            for name, path in [("manager-disk", torture.grid.manager_state)] + [(f"workers/{name}", os.path.join(torture.folder, "workers", name)) for name in torture.grid.disks if name != "manager"]:
                shutil.copytree(path, os.path.join(torture.folder, "kept", name), ignore=lambda folder, names: ["ballast"], symlinks=True)
        print(f"logs, store and ledger are in {torture.folder}", file=out)
    else:
        if hasattr(torture, "grid"):
            for path in [torture.grid.manager_state] + [os.path.join(torture.folder, "workers", name) for name in torture.grid.disks if name != "manager"] if torture.grid.disks else []:
                enclosure.quiet("umount", path)
        shutil.rmtree(torture.folder, ignore_errors=True)
    if chosen.json:
        print(json.dumps({**figures, "wrong": wrong}))
    print(("WRONG, " + str(len(wrong)) + " findings" if wrong else "nothing was lost") + f": seed {chosen.seed}", file=out, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
