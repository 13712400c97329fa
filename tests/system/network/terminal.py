"""A program on a terminal of its own, as a person starts it."""
import os
import pty
import select
import signal
import time


class Terminal:
    def __init__(self, words):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(words[0], words)

    def see_through(self, typed="", seconds=60):
        """Its exit code, and what it wrote. typed: a line for when it asks"""
        seen, end = b"", time.monotonic() + seconds
        while block := self.block(end - time.monotonic()):
            seen += block
            if typed and seen.rstrip().endswith(b":"):
                os.write(self.terminal, typed.encode() + b"\n")
                typed = ""
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), seen.decode(errors="replace").replace("\r\n", "\n")

    def block(self, seconds):
        if seconds <= 0 or not select.select([self.terminal], [], [], seconds)[0]:
            os.kill(self.pid, signal.SIGKILL)
            return b""
        try:
            return os.read(self.terminal, 65536)
        except OSError:  # the end: nobody has it open any more
            return b""
