#!/usr/bin/env python3
# Counts lines, words and bytes of a file or, of what is no file, of the text itself.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../service"))
import souk_service  # noqa: E402


def count(request):
    data, name = request.body, ""
    if b"/" in data and b"\n" not in data:
        name = " " + request.text
        with open(data, "rb") as file:
            data = file.read()
    return f"{data.count(10)} {len(data.split())} {len(data)}{name}\n"


souk_service.serve(count)
