#!/bin/sh
# lenet-edge on a board: ./run.sh verify | bench | predict IMAGE | serve | doctor | ... --help
# Needs Python 3.10 or later with a runtime: $PYTHON, a venv of the wheels in this folder, or python3.
folder=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd) || exit
if [ -z "$PYTHON" ] && [ -d "$folder/wheels" ]; then
  [ -e "$folder/venv/complete" ] || sh "$folder/install.sh" "$folder/wheels" "$folder/venv" || exit
  PYTHON=$folder/venv/bin/python
fi
export LENET_EDGE_EXPORTED="$folder/exported"
# Import nothing from the working folder, which -c puts on the path as an empty name. Import
# lenet_edge by its place, because a file json.py in this folder must not replace Python's.
exec "${PYTHON:-python3}" -c "import sys
sys.path[:] = filter(None, sys.path)
import importlib.util
place = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    'lenet_edge', place + '/__init__.py', submodule_search_locations=[place])
sys.modules['lenet_edge'] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules['lenet_edge'])
from lenet_edge.cli import main
main(prog_name='lenet-edge')" "$folder/lenet_edge" "$@"
