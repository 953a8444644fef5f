#!/bin/sh
# Create a virtual environment from a folder of wheels, without an index: sh install.sh WHEELS VENV
# pip runs from its wheel and is not installed. A complete venv contains a file `complete`.
set -eu
folder=$1 venv=$2
set --
for wheel in "$folder"/*.whl; do
  case ${wheel##*/} in
    pip-*) pip=$wheel ;;
    numpy-*) has_numpy=yes; set -- "$@" "$wheel" ;;
    *) set -- "$@" "$wheel" ;;
  esac
done
rm -rf "$venv"
# NumPy has no wheels for 32-bit Arm. The venv then uses the NumPy of the system.
system_packages=--system-site-packages
[ -z "${has_numpy-}" ] || system_packages=
# Import nothing from the working folder, which -m would put on the path.
"${PYTHON3:-python3}" -c "import sys
sys.path[:] = filter(None, sys.path)
import venv
venv.main(sys.argv[1:])" --without-pip $system_packages "$venv"
"$venv/bin/python" "$pip/pip" install --no-index --no-deps --no-cache-dir --no-compile \
  --disable-pip-version-check --root-user-action ignore --quiet "$@"
# Delete 9 MB of files that are not needed at run time: NumPy's tests, headers and type stubs.
find "$venv/lib" -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
find "$venv/lib" -type f \( -name '*.pyi' -o -name '*.a' \) -exec rm -f {} +
sync
: > "$venv/complete"
