"""A worker of tools.device whose parts do what their names say."""

import json
import os
import sys
import threading


def main() -> None:
    out, _, _, _, *names = sys.argv[1:]
    if names[0] == "cannot start":
        sys.exit("no such module")
    for name in names:
        row = {"table": "check", "name": "row", "ok": name != "finds a fault", "figures": {"value": 1}}
        lines = [{"part": name, "event": "begin"}, {"part": name, "row": row}]
        with open(out, "a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
        if name == "hangs":
            threading.Event().wait()
        if name == "dies":
            sys.stderr.write("killed by the driver\n")
            sys.stderr.flush()
            os._exit(9)
        error = "RuntimeError: CUDA error" if name == "raises" else ""
        with open(out, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"part": name, "event": "end", "error": error}) + "\n")
        if error:
            return


if __name__ == "__main__":
    main()
