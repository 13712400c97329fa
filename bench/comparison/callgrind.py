"""Reads what callgrind wrote, and says which stage of a task's way a function belongs to. Pure."""
import collections
import re

# The first that matches (library, function) wins.
STAGES = tuple((stage, re.compile(library), re.compile(function)) for stage, library, function in (
    ("memory: malloc, free, copying", r"", r"^(_int_)?(malloc|free|realloc|calloc)|malloc_|unlink_chunk|operator (new|delete)|^__?mem(cpy|move|set|cmp)|_mem(cpy|move|set|cmp)"),
    ("SQLite", r"libsqlite3", r""),
    ("journal", r"", r"souk::.*(Journal|Store(Writer|Reader|Sweeper)|Restor|Spool|CommandStore)|SQLite::"),
    ("scheduling", r"", r"souk::(anonymous::)?(Scheduler|Dispatch|Attempts|Workers|Market|Watch|Room|Expression|Offer|Explain|Agent|Packing|Policy)"),
    ("payload: protobuf", r"libprotobuf", r""),
    ("payload: protobuf", r"", r"souk::wire::|google::protobuf|souk::(read|write|parse)$"),
    ("payload: zlib", r"libz\.", r""),
    ("payload: base64 and checksums", r"libcrypto", r""),
    ("payload: the rest of coding", r"", r"souk::(encode|decode|base64|from_base64|check|payload_in|add_payload)"),
    ("XML: expat, trees, text", r"libexpat|libgloox", r""),
    ("XML: expat, trees, text", r"", r"souk::(XmlStream|element|child|result_of|printable)|gloox::"),
    ("connection: link, router, requests", r"", r"souk::(.*(XmppLink|AsioConnection|GlooxEngine|StanzaRouter|PendingRequests|TlsSession))|libssl"),
    ("event loop", r"", r"boost::asio"),
    ("running tasks", r"", r"souk::.*(Executor|Runner|Process|Launch|Leftovers)"),
    ("log", r"libspdlog|libfmt", r""),
    ("log", r"", r"spdlog|fmt::"),
    ("conversation and book-keeping", r"", r"souk::"),
    ("C++ and C library", r"libstdc\+\+|libc\.so|libc-|ld-linux|libm\.|libpthread", r""),
    ("C++ and C library", r"", r"std::"),
))
REST = "everything else"


def self_costs(lines):
    """(library, function) -> instructions of its own. The format: valgrind's manual, "Callgrind Format Specification"."""
    names = {"ob": {}, "fn": {}}
    costs = collections.Counter()
    library = function = ""
    called = False

    def named(kind, text):
        """`(7) name` says what 7 is; `(7)` alone is that again."""
        found = re.match(r"\((\d+)\)(?: (.*))?$", text)
        if not found:
            return text
        if found.group(2) is not None:
            names[kind][found.group(1)] = found.group(2)
        return names[kind].get(found.group(1), "")

    for line in lines:
        if line[:1].isdigit() or line[:1] in "+-*":
            if called:  # what the callee cost: it is counted there
                called = False
                continue
            fields = line.split()
            if len(fields) > 1:
                costs[library, function] += int(fields[1])
        elif line.startswith("fn="):
            function = named("fn", line[3:].rstrip("\n"))
        elif line.startswith("ob="):
            library = named("ob", line[3:].rstrip("\n"))
        elif line.startswith("cfn="):
            named("fn", line[4:].rstrip("\n"))
        elif line.startswith("cob="):
            named("ob", line[4:].rstrip("\n"))
        elif line.startswith("calls="):
            called = True
    return costs


def per_task(few, many, tasks):
    """What one more task costs; tasks: by how many more there were in `many`."""
    return collections.Counter({where: (many[where] - few.get(where, 0)) / tasks for where in many if many[where] > few.get(where, 0)})


def stage_of(library, function):
    name = function.replace("(anonymous namespace)", "anonymous").split("(")[0]  # what it is given says nothing of what it does
    return next((stage for stage, of_library, of_function in STAGES if of_library.search(library) and of_function.search(name)), REST)


def stages_of(costs):
    stages = collections.Counter()
    for (library, function), cost in costs.items():
        stages[stage_of(library, function)] += cost
    return stages
