#!/usr/bin/env bash
# `npm run bench -- OPTIONS`: installs and builds what is missing, then measures. `npm run bench -- --help` says what there is.
# `npm run bench -- scale`: a host among thousands instead; `npm run bench -- tables`: large tables of one dataplane.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib/common.sh"

main=main.ts
[ "${1:-}" != scale ] || main=scale/main.ts
for word in "$@"; do
  case $word in -h | --help) exec node --import tsx "bench/$main" --help ;; esac
done

if [ "${1:-}" = tables ]; then
  {
    bash scripts/setup.sh build
    use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh build"
    [ -n "${VTEPD_DATAPLANE:-}" ] || bash scripts/build.sh --no-setup
  } >&2
  node --import tsx bench/tables.ts
  say "lookups and changes by table size" >&2
  exec cargo bench --quiet --locked --manifest-path native/Cargo.toml --target-dir native/target --bench lookup -- --quick
fi

if [ "${1:-}" = scale ]; then
  {
    bash scripts/setup.sh test
    use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh test"
    bash scripts/build.sh --no-setup
  } >&2
  exec node --import tsx bench/scale/main.ts "$@"
fi

# With --json, standard output is the result and nothing else.
{
  bash scripts/setup.sh build bench
  use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh build"
  # VTEPD_DATAPLANE names another dataplane to measure, as it does for vtepd itself.
  [ -n "${VTEPD_DATAPLANE:-}" ] || bash scripts/build.sh --no-setup
  cargo build --quiet --release --locked --manifest-path bench/load/Cargo.toml --target-dir bench/load/target
  # What Open vSwitch lacks is said in the table; everything else is measured without it.
  bash scripts/setup.sh openvswitch || say "going on without Open vSwitch"
} >&2

exec node --import tsx bench/main.ts "$@"
