"""Entry point of ``python -m lenet_edge``, which is the ``lenet-edge`` command."""

from lenet_edge.cli import main

if __name__ == "__main__":
    main(prog_name="lenet-edge")
