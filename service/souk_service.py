"""Makes a service for Souk out of a function: it is called for each task, in one process that stays.

    import souk_service

    def shout(request):
        return request.text.upper() + "\\n"

    souk_service.serve(shout)

The function gets a Request and returns the task's stdout as str or bytes (None: nothing). An exception makes the task fail with exit code 1; its text is
the task's stderr. What the function prints goes to the worker's log, not into the answer; its stdin, and that of programs it starts, is empty. Needs Python 3.8 and nothing else; docs/SERVICES.md has the rules.

Try it by hand: souk_service.serve(shout, framing="json"), then write {"id": 1, "body": "hello"} to its stdin.
"""
import base64
import json
import os
import sys
import time
import traceback

_FLUSH_BYTES = 256 << 10  # of answers that wait; and
_FLUSH_S = 0.001          # how long they may, while requests are there


class Request:
    """One call. body: bytes; job, task, run: numbers; item: the task's words or item as bytes, where body is the job's input (--stdin)."""
    __slots__ = ("id", "body", "item", "job", "task", "run")

    def __init__(self, id=0, body=b"", item=b"", job=0, task=0, run=1):
        self.id, self.body, self.item, self.job, self.task, self.run = id, body, item, job, task, run

    @property
    def text(self):
        """The body as text; what is no UTF-8 comes as surrogates, which go back to the same bytes."""
        return self.body.decode("utf-8", "surrogateescape")


def serve(function, framing="binary"):
    """Answers until the worker closes stdin. framing: "binary", or "json" for a service that is offered as NAME=json:COMMAND."""
    codec = {"binary": _Binary, "json": _Json}[framing]()
    # Neither a stray print() nor a program that the function starts gets at the pipes: it would stand between two answers, or eat requests.
    source, out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    buffer, answers, size, flushed = b"", [], 0, time.monotonic()

    def flush():
        nonlocal size, flushed
        rest = memoryview(b"".join(answers))
        answers.clear()
        size, flushed = 0, time.monotonic()
        while rest:
            rest = rest[os.write(out, rest):]

    while True:
        requests, used = codec.requests(buffer)
        buffer = buffer[used:]
        for request in requests:
            if request.id == 0:
                answer = codec.answer(0, b"", None)
            else:
                try:
                    body = function(request)
                    if body is None:
                        body = b""
                    elif isinstance(body, str):
                        body = body.encode("utf-8", "surrogateescape")
                    answer = codec.answer(request.id, bytes(body), None)
                except Exception as failure:  # the task's, not the service's
                    traceback.print_exc()
                    answer = codec.answer(request.id, b"", "".join(traceback.format_exception_only(type(failure), failure)))
            answers.append(answer)
            size += len(answer)
            if size >= _FLUSH_BYTES or time.monotonic() - flushed > _FLUSH_S:
                flush()
        if answers:
            flush()
        more = os.read(source, 1 << 16)
        flushed = time.monotonic()
        if not more:
            return
        buffer += more
        needed = codec.needed(buffer)
        if needed > len(buffer):  # a large request: not looked at again for each piece of it
            parts = [buffer]
            missing = needed - len(buffer)
            while missing > 0:
                more = os.read(source, min(missing, 1 << 20))
                if not more:
                    return
                parts.append(more)
                missing -= len(more)
            buffer = b"".join(parts)


def _varint(buffer, at):
    """The number there and where it ends; None if it is not whole."""
    value = shift = 0
    while at < len(buffer):
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return None, at


def _put_varint(value):
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7f | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


class _Binary:
    def needed(self, buffer):
        length, at = _varint(buffer, 0)
        return 0 if length is None else at + length

    def requests(self, buffer):
        found, at, end = [], 0, len(buffer)
        while at < end:
            length, start = _varint(buffer, at)
            if length is None or start + length > end:
                break
            found.append(self._request(buffer, start, start + length))
            at = start + length
        return found, at

    @staticmethod
    def _request(buffer, at, end):
        request = Request()
        while at < end:
            tag, at = _varint(buffer, at)
            kind = tag & 7
            if kind == 0:
                value, at = _varint(buffer, at)
            elif kind == 2:
                size, at = _varint(buffer, at)
                value, at = bytes(buffer[at:at + size]), at + size
            else:
                value, at = None, at + (8 if kind == 1 else 4)
            name = ("", "id", "body", "job", "task", "run", "item")[tag >> 3] if tag >> 3 < 7 else ""
            if name:
                setattr(request, name, value)
        return request

    @staticmethod
    def answer(id, body, error):
        message = b"\x08" + _put_varint(id) if id else b""
        if body:
            message += b"\x12" + _put_varint(len(body)) + body
        if error is not None:
            text = error.encode("utf-8", "replace")
            message += b"\x1a" + _put_varint(len(text)) + text
        return _put_varint(len(message)) + message


class _Json:
    def needed(self, buffer):
        return 0

    def requests(self, buffer):
        end = buffer.rfind(b"\n") + 1
        found = []
        for line in buffer[:end].splitlines():
            if not line.strip():
                continue
            fields = json.loads(line)
            body, item = (base64.b64decode(fields[key + "_base64"]) if key + "_base64" in fields else fields.get(key, "").encode("utf-8", "surrogateescape")
                          for key in ("body", "item"))
            found.append(Request(fields["id"], body, item, fields.get("job", 0), fields.get("task", 0), fields.get("run", 1)))
        return found, end

    @staticmethod
    def answer(id, body, error):
        fields = {"id": id}
        if error is not None:
            fields["error"] = error
        else:
            try:
                fields["body"] = body.decode("utf-8")
            except UnicodeDecodeError:
                fields["body_base64"] = base64.b64encode(body).decode("ascii")
        return json.dumps(fields).encode("utf-8") + b"\n"
