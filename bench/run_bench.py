#!/usr/bin/env python3
"""A whole grid on this machine, side by side with what a user would type instead. Prints machine, commit, medians and spread.

  bench/run_bench.py [--rounds 5] [--tasks 1000] [--json]

Needs a release build (scripts/build); starts a private grid of 2 slots in a temporary folder and stops it again.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("SOUK_BIN", os.path.join(ROOT, "build/release/bin"))
SOUK = os.path.join(BIN, "souk")


def timed(command, **options):
    start = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    return time.monotonic() - start


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tasks", type=int, default=1000)
    options.add_argument("--json", action="store_true")
    options = options.parse_args()
    folder = tempfile.mkdtemp(prefix="souk-bench-")
    env = {**os.environ, "SOUK_DIR": folder}
    figures = {}

    def note(name, value):
        figures.setdefault(name, []).append(value)

    try:
        note("up_s", timed([SOUK, "up", "--workers", "1", "--slots", "2"], env=env))
        with open(os.path.join(folder, "state.json")) as file:
            pids = {entry["name"]: entry["pid"] for entry in json.load(file)["programs"]}
        n = str(options.tasks)
        timed([SOUK, "run", "--array", "1-200", "--", "true"], env=env)
        for _ in range(options.rounds):
            before = {name: cpu_of(pid) for name, pid in pids.items()}
            souk = timed([SOUK, "run", "--no-progress", "--array", "1-" + n, "--", "/bin/true"], env=env)
            for name in ("server", "manager"):
                note(f"cpu_us_per_task_{name}", (cpu_of(pids[name]) - before[name]) / options.tasks * 1e6)
            xargs = timed(["sh", "-c", f"seq {n} | xargs -n1 -P2 /bin/true"])
            note("run_array_s", souk)
            note("run_array_tasks_per_s", options.tasks / souk)
            note("xargs_tasks_per_s", options.tasks / xargs)
            note("ratio_to_xargs", xargs / souk)
            for _ in range(10):
                note("run_one_ms", timed([SOUK, "run", "true"], env=env) * 1e3)
        note("down_s", timed([SOUK, "down"], env=env))
    finally:
        subprocess.run([SOUK, "down"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)

    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    rows = {name: {"median": statistics.median(v), "min": min(v), "max": max(v), "n": len(v)} for name, v in figures.items()}
    if options.json:
        print(json.dumps({"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "commit": commit, "load": os.getloadavg()[0], "tasks": options.tasks, "figures": rows}))
        return
    print(f"{cpu}, {os.cpu_count()} cores, kernel {platform.release()}, commit {commit}, load {os.getloadavg()[0]:.1f}")
    print(f"{'figure':<28} {'median':>10} {'min':>10} {'max':>10} {'n':>4}")
    for name, row in rows.items():
        print(f"{name:<28} {row['median']:>10.2f} {row['min']:>10.2f} {row['max']:>10.2f} {row['n']:>4}")


if __name__ == "__main__":
    main()
