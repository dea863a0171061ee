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

# What requirements/*.lock name, each file with a hash that pip checks. UNLOCKED=1 takes the newest
# versions within the ranges of setup.py instead. Arguments: a Python, the lock of all but PyTorch.
install_packages() {
    local python="$1" lock="$repo/requirements/$2"
    local pip=("$python" -m pip install --disable-pip-version-check --progress-bar off)
    if [ -n "${UNLOCKED:-}" ]; then
        "${pip[@]}" -e "$repo[dev]"
        return
    fi
    local locked=("${pip[@]}" --require-hashes --no-deps --no-build-isolation)
    "${locked[@]}" -r "$repo/requirements/build.lock" || return
    # a folder of files (pip's find-links) comes before the index, which may have gigabytes
    "${locked[@]}" --no-index -r "$repo/requirements/torch.lock" ||
        "${locked[@]}" -r "$repo/requirements/torch.lock" || return
    "${locked[@]}" -r "$lock" || return
    # PyTorch for the CPU needs no more; its build for CUDA says that it does
    if "$python" -c 'import sys; from importlib.metadata import requires
sys.exit(not any("nvidia" in each for each in requires("torch") or []))'; then
        "${locked[@]}" -r "$repo/requirements/cuda.lock" || return
    fi
    "${pip[@]}" --no-deps --no-build-isolation -e "$repo"
}

# The stamp holds what was installed, so that a changed setup.py or lock installs again.
stamp="$venv/.installed"
wanted="$(cat "$repo/setup.py" "$repo"/requirements/*.lock | cksum) ${UNLOCKED:+unlocked}"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    python="$(find_python)" || exit 1
    if [ ! -x "$PY" ]; then
        echo "== making .venv with $("$python" --version)"
        "$python" -m venv "$venv" || exit 1
    fi
    echo "== installing fairseq_ki and its dependencies into .venv (about a minute)"
    install_packages "$PY" all.lock >"$venv/install.log" 2>&1 || {
        tail -n 20 "$venv/install.log" >&2
        echo "installation failed; the whole log is $venv/install.log" >&2
        echo "(a package index without a locked version: UNLOCKED=1 takes what it has)" >&2
        exit 1
    }
    echo "$wanted" >"$stamp"
fi
