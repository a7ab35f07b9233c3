"""A child that tries what it must not, for test_child.py. Run with `-m`."""

import os
import sys
import tempfile
import time

from veza.media.confine import confine

MiB = 1024 * 1024


def too_much_memory() -> bool:
    try:
        return not bytearray(512 * MiB)
    except MemoryError:
        return True


def too_large_a_file() -> bool:
    with tempfile.TemporaryFile() as file:
        try:
            os.pwrite(file.fileno(), b"x", 4096)
        except OSError:
            return True
    return False


def main() -> None:
    confine(memory=256 * MiB, largest_file=4096)
    match sys.argv[1]:
        case "wait":
            print("{}", flush=True)
            time.sleep(600)
        case "memory":
            tell(too_much_memory())
        case "file":
            tell(too_large_a_file())
        case "secret":
            tell("JWT_SECRET" not in os.environ)
        case "nice":
            tell(os.nice(0) >= 10)
        case "noise":
            print("no JSON", flush=True)
            time.sleep(600)
        case "crash":
            raise RuntimeError("for the test")


def tell(confined: bool) -> None:
    print('{"confined": true}' if confined else '{"confined": false}', flush=True)


if __name__ == "__main__":
    main()
