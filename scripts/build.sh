#!/usr/bin/env bash
# Builds everything that runs: src/ -> dist/ (TypeScript), native/ -> native/target/release/vtepd-dataplane (Rust).
# What is up to date is left alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

[ "${1:-}" = --no-setup ] || bash scripts/setup.sh build
use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh build"

# dist/ is built aside and put in place by a rename, so that a vtepd that starts meanwhile never sees half of it.
want=$(find src tsconfig.json package-lock.json -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat dist/.stamp 2>/dev/null)" != "$want" ]; then
  say "tsc: src -> dist"
  fresh=$(mktemp -d dist.XXXXXX)
  trap 'rm -rf "$fresh"' EXIT
  node_modules/.bin/tsc -p tsconfig.json --outDir "$fresh"
  printf '%s\n' "$want" >"$fresh/.stamp"
  chmod 755 "$fresh"
  old=$(mktemp -d dist.XXXXXX)
  if [ -e dist ]; then mv dist "$old/"; fi
  mv "$fresh" dist
  rm -rf "$old"
fi

if [ ! -x native/target/release/vtepd-dataplane ]; then say "cargo build --release (the first time takes a minute or two)"; fi
cargo build --release --locked --manifest-path native/Cargo.toml --target-dir native/target
