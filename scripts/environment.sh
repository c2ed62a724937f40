# Sourced by the scripts: finds a Python, makes .venv and installs what constraints.txt pins.
# It downloads from the package index that pip is configured for, and from nowhere else.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

fail() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  fix: %s\n' "$2" >&2
  exit 1
}

# The digest of files, by the Python at hand: sha256sum is not everywhere.
digest() {
  "$PYTHON" -c 'import hashlib, sys
print(hashlib.sha256(b"".join(open(name, "rb").read() for name in sys.argv[1:])).hexdigest())' "$@"
}

find_python() {
  local name
  for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON="$name"
      return
    fi
  done
  fail "no Python 3.11 or newer found" "install one (apt install python3 / brew install python), or name it: PYTHON=/path/to/python $0"
}

# make_venv EXTRAS: .venv with clinvk itself (as it stands in src/) and the named extras; nothing if it is there already.
make_venv() {
  local extras="$1" stamp
  stamp="$(digest "$ROOT/pyproject.toml" "$ROOT/constraints.txt") ${extras:-none} $("$PYTHON" --version)"
  if [ -x "$VENV/bin/clinvk" ] && { [ "$(cat "$VENV/.clinvk-stamp" 2>/dev/null)" = "$stamp" ] ||
    [ "$(cat "$VENV/.clinvk-stamp" 2>/dev/null)" = "${stamp/none/[dev]}" ]; }; then
    return
  fi
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "this Python cannot make virtual environments" "apt install python3-venv (Debian, Ubuntu), or use another Python: PYTHON=/path/to/python $0"
  echo "Making .venv with $("$PYTHON" --version) and installing clinvk$extras (half a minute) ..."
  "$PYTHON" -m venv --clear "$VENV" || fail "could not make $VENV" "remove it and try again; Debian and Ubuntu need: apt install python3-venv"
  pip_install setuptools
  pip_install --no-build-isolation -e "$ROOT$extras"
  printf '%s' "$stamp" >"$VENV/.clinvk-stamp"
}

pip_install() {
  "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input -c "$ROOT/constraints.txt" "$@" ||
    fail "pip could not install $*" "check the network or the package index (pip config list) and run this again"
}
