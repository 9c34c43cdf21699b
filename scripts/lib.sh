# shellcheck shell=bash
# What every script here shares: where the repository is, which Rust is used, and how to speak.

# The scripts that source this use what it sets.
# shellcheck disable=SC2034

# The newest floor among the dependencies, as `rust-version` in Cargo.toml says.
RUST_VERSION_MIN=1.94

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
BUF_HOME=$ROOT/tools/buf
cd "$ROOT" || exit 1

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# version_at_least FOUND MINIMUM, both dotted numbers.
version_at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

rust_is_recent() {
  local found
  found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
  [ -n "$found" ] && have cargo && version_at_least "$found" "$RUST_VERSION_MIN"
}

# A rustup that was installed a moment ago is not on this shell's path yet, and
# somebody's default toolchain may be older than the stable one beside it.
use_rust() {
  local cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
  if ! rust_is_recent && [ -d "$cargo_bin" ]; then
    PATH=$cargo_bin:$PATH
    export PATH
  fi
  if ! rust_is_recent && have rustup && RUSTUP_TOOLCHAIN=stable rust_is_recent; then
    export RUSTUP_TOOLCHAIN=stable
  fi
}

use_rust

# Python messages of the contract, in gen/python (not committed), for the tests
# that read over gRPC what the server recorded.
generate_python_messages() {
  scripts/buf generate
}

# Where cargo puts what it builds, for those who run it.
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
