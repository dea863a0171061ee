# Makes the environment .venv in the clone and installs the plug-in there, once.
# Sourced by the scripts that a person runs; sets PY to the environment's Python.

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$repo/.venv"
PY="$venv/bin/python"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "expected Python 3.11 or 3.12 on the PATH, found: $(python3 --version 2>&1)." \
        "Name one with PYTHON=/path/to/python3.11" >&2
    return 1
}

# The stamp holds what was installed, so that a changed setup.py installs again.
stamp="$venv/.installed"
wanted="$(cksum <"$repo/setup.py")"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    python="$(find_python)" || exit 1
    if [ ! -x "$PY" ]; then
        echo "== making .venv with $("$python" --version)"
        "$python" -m venv "$venv" || exit 1
    fi
    echo "== installing fairseq_ki and its dependencies into .venv (about a minute)"
    "$PY" -m pip install --disable-pip-version-check --progress-bar off \
        -e "$repo[dev]" >"$venv/install.log" 2>&1 || {
        tail -n 20 "$venv/install.log" >&2
        echo "installation failed; the whole log is $venv/install.log" >&2
        exit 1
    }
    echo "$wanted" >"$stamp"
fi
