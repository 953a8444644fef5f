"""Entry point of ``python -m lenet_edge``, which is the ``lenet-edge`` command."""

import sys

if __name__ == "__main__":
    # ``python -m`` puts the current folder first. A file json.py in it would replace Python's.
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        del sys.path[0]
    from lenet_edge.cli import main

    main(prog_name="lenet-edge")
