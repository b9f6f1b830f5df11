#!/usr/bin/env bash
# `npm run bench -- OPTIONS`: installs and builds what is missing, then measures. `npm run bench -- --help` says what there is.
# `npm run bench -- scale`: a host among thousands instead; `npm run bench -- tables`: large tables of one dataplane.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib/common.sh"

main=main.ts
[ "${1:-}" != scale ] || main=scale/main.ts
for word in "$@"; do
  case $word in -h | --help) exec node --import tsx "bench/$main" --help ;; esac
done

# prepare PURPOSE...: what is missing for these is installed, then everything is built. With --json, standard output is the
# result and nothing else. VTEPD_DATAPLANE names another dataplane to measure, as it does for vtepd itself.
prepare() {
  {
    bash scripts/setup.sh "$@"
    use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh $*"
    [ -n "${VTEPD_DATAPLANE:-}" ] || bash scripts/build.sh --no-setup
  } >&2
}

case ${1:-} in
  tables)
    prepare build
    node --import tsx bench/tables.ts
    say "lookups and changes by table size" >&2
    exec cargo bench --quiet --locked --manifest-path native/Cargo.toml --target-dir native/target --bench lookup -- --quick
    ;;
  scale)
    # It runs the control plane too, which is built whatever the dataplane is.
    VTEPD_DATAPLANE='' prepare test
    exec node --import tsx bench/scale/main.ts "$@"
    ;;
esac

prepare build bench
cargo build --quiet --release --locked --manifest-path bench/load/Cargo.toml --target-dir bench/load/target >&2
# What Open vSwitch lacks is said in the table; everything else is measured without it.
bash scripts/setup.sh openvswitch >&2 || say "going on without Open vSwitch" >&2
exec node --import tsx bench/main.ts "$@"
