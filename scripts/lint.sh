#!/usr/bin/env bash
# All linters, each to its end; fails when one of them found something.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

bash scripts/setup.sh lint
use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh lint"

bad=()
check() {
  local name=$1
  shift
  say "$name"
  "$@" || bad+=("$name")
}

bin=node_modules/.bin
check "biome" "$bin/biome" check --error-on-warnings
check "oxlint (type-aware)" "$bin/oxlint" --type-aware --deny-warnings
check "tsc: src" "$bin/tsc" --noEmit -p tsconfig.json
check "tsc: test" "$bin/tsc" --noEmit -p test/tsconfig.json
check "rustfmt" cargo fmt --manifest-path native/Cargo.toml --check
check "clippy" cargo clippy --manifest-path native/Cargo.toml --target-dir native/target --all-targets --locked -- -D warnings
check "rustfmt: bench" cargo fmt --manifest-path bench/load/Cargo.toml --check
check "clippy: bench" cargo clippy --manifest-path bench/load/Cargo.toml --target-dir bench/load/target --all-targets --locked -- -D warnings
check "shellcheck" shellcheck -x -P SCRIPTDIR scripts/*.sh scripts/lib/*.sh scripts/vm/*.sh scripts/vm/guest/init .ci/run bench/run.sh

if [ "${#bad[@]}" -gt 0 ]; then
  printf 'lint failed: %s\n' "${bad[@]}" >&2
  exit 1
fi
say "no findings"
