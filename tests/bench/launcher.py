"""Starts commands from a process that is itself small, so that their peak memory is theirs.

Linux lets a started program inherit the peak of the one that started it. Requests come on stdin and answers go to stdout, both as marshal; imports nothing but what Python itself starts with.
"""

import marshal
import os
import sys
import time


def serve() -> None:
    """Answer (argv, env, output file) with (exit code, wall s, CPU s, peak bytes, start in Unix ns) until stdin ends."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    unit = 1024 if sys.platform == "linux" else 1
    while True:
        try:
            argv, env, output = marshal.load(sys.stdin.buffer)
        except EOFError:
            return
        into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        actions = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, into, 1), (os.POSIX_SPAWN_DUP2, into, 2)]
        started_ns, begin = time.time_ns(), time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begin
        os.close(into)
        answer = (os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
        marshal.dump((*answer, started_ns), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
