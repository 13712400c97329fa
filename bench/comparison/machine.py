"""Where and of what figures are: machine, versions, commit."""
import datetime
import os
import platform
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def answer_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def package_version(name):
    return answer_of("dpkg-query", "-W", "-f", "${Version}", name)


def commit():
    short = answer_of("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    changed = answer_of("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no")
    return (short or "unknown") + (" with changes" if changed else "")


def facts(programs):
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    with open("/etc/os-release") as file:
        system = dict(line.rstrip().split("=", 1) for line in file if "=" in line).get("PRETTY_NAME", "Linux").strip('"')
    version = answer_of("cat", "/etc/debian_version") if "Debian" in system else ""
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "kernel": platform.release(), "system": f"{system} ({version})" if version else system, "commit": commit(),
        "build": build_of(programs), "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def build_of(programs):
    """`release build`, as the cache of CMake beside the programs says."""
    try:
        with open(os.path.join(os.path.dirname(os.path.abspath(programs)), "CMakeCache.txt")) as file:
            kind = next((line.split("=", 1)[1].strip() for line in file if line.startswith("CMAKE_BUILD_TYPE:")), "")
    except OSError:
        kind = ""
    return f"{kind or 'unknown'} build"
