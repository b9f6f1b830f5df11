# Shared by the scripts beside it; sourced, never run. Sets TOP and goes there, and finds cargo without installing anything.
# shellcheck shell=bash

set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$TOP"

# Oldest Rust that builds the dataplane (`rust-version` in native/Cargo.toml) and oldest Node that runs the rest
# (`engines` in package.json).
RUST_MIN=1.89
# shellcheck disable=SC2034 # used by those that source this
NODE_MIN=20.19

say() { printf '\033[1m==>\033[0m %s\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# at_least 1.96.0 1.89: true when the first version is the second or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# rust_version DIR: version of the cargo and rustc in DIR (the older of both); nothing when one of them is missing or broken.
rust_version() {
  local tool version oldest=
  for tool in rustc cargo; do
    [ -x "$1/$tool" ] || return 0
    version=$("$1/$tool" --version 2>/dev/null | awk '{ print $2 }')
    [ -n "$version" ] || return 0
    if [ -z "$oldest" ] || at_least "$oldest" "$version"; then oldest=$version; fi
  done
  printf '%s\n' "$oldest"
}

# use_rust: puts the first new enough toolchain in front of PATH: that of PATH, rustup's, or the distribution's.
use_rust() {
  local dir version
  for dir in "$(dirname "$(command -v cargo 2>/dev/null || echo /nonexistent/cargo)")" "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/bin; do
    version=$(rust_version "$dir")
    if [ -n "$version" ] && at_least "$version" "$RUST_MIN"; then
      PATH="$dir:$PATH"
      export PATH
      return 0
    fi
  done
  return 1
}
