#!/usr/bin/env bash
# Everything there is to test: the dataplane's own tests, unit tests, system tests; then looks whether anything was left
# behind. `npm test -- PATTERN` runs only the system tests whose file name matches.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

bash scripts/setup.sh test
use_rust || fail "no Rust >= $RUST_MIN found; run scripts/setup.sh test"
bash scripts/build.sh --no-setup

# What this run makes carries its mark: names of namespaces begin with it, files are below its directory.
VTEPD_BED="vt$$x"
TMPDIR=$(mktemp -d /tmp/vtepd-test.XXXXXX)
export VTEPD_BED TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

passed=0 failed=0 skipped=0 broken=()
table=""

# add NAME SECONDS PASSED FAILED SKIPPED: one line of the summary.
add() {
  passed=$((passed + $3)) failed=$((failed + $4)) skipped=$((skipped + $5))
  table+=$(printf '%-10s %4d s  %5d passed  %3d failed  %3d skipped' "$1" "$2" "$3" "$4" "$5")$'\n'
}

sum() { awk -v pattern="$1" -v field="$2" '$0 ~ pattern { n += $field } END { print n + 0 }' "$3"; }

dataplane() {
  local out=$TMPDIR/cargo.out started=$SECONDS
  say "cargo test"
  cargo test --locked --manifest-path native/Cargo.toml --target-dir native/target </dev/null 2>&1 | tee "$out" ||
    broken+=("cargo test")
  add dataplane $((SECONDS - started)) "$(sum '^test result' 4 "$out")" "$(sum '^test result' 6 "$out")" "$(sum '^test result' 8 "$out")"
}

# typescript NAME PARALLEL TIMEOUT_MS FILE...
typescript() {
  local name=$1 parallel=$2 timeout=$3 out=$TMPDIR/$1.tap started=$SECONDS
  shift 3
  say "$name tests ($# files)"
  node --import tsx --test --test-concurrency="$parallel" --test-timeout="$timeout" \
    --test-reporter=spec --test-reporter-destination=stdout --test-reporter=tap --test-reporter-destination="$out" "$@" </dev/null ||
    broken+=("$name tests")
  add "$name" $((SECONDS - started)) "$(sum '^# pass ' 3 "$out")" "$(sum '^# (fail|cancelled) ' 3 "$out")" "$(sum '^# skipped ' 3 "$out")"
}

# The state of the machine that no test may change.
machine() {
  ip -o link show type tun | awk -F': ' '{ print "device " $2 }'
  nft list tables 2>/dev/null || true
}

leftovers() {
  ip netns list | awk -v mark="$VTEPD_BED" 'index($1, mark) == 1 { print "namespace " $1 }'
  find "$TMPDIR" -mindepth 1 -maxdepth 1 -name 'vtepd-*' -printf 'directory %p\n'
  local process command
  for process in /proc/[0-9]*; do
    # A process may end between the listing and the look.
    command=$({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null || true)
    if [ "${process#/proc/}" != $$ ] && [[ $command == *"$TMPDIR/"* ]]; then
      printf 'process %s: %s\n' "${process#/proc/}" "$command"
    fi
  done
  grep -o "${TMPDIR}[^ ]*" /proc/self/mountinfo | sed 's/^/mount /' || true
  diff <(printf '%s\n' "$before") <(machine) | sed -n 's/^> //p' || true
}

before=$(machine)
mapfile -t unit < <(find test/unit -name '*.test.ts' | sort)
# The virtual machine takes longest: it starts first.
mapfile -t system < <(find test/system -name '*.test.ts' | sort | awk '/\/vm\.test/ { print; next } { rest = rest $0 "\n" } END { printf "%s", rest }')
limit=300000
if [ "$#" -gt 0 ]; then
  # A file chosen by hand may be told to run for hours (VTEPD_CLUSTER_SECONDS, VTEPD_MODEL_CASES).
  limit=2147483647
  mapfile -t system < <(printf '%s\n' "${system[@]}" | grep -E -- "$1" || true)
  [ "${#system[@]}" -gt 0 ] || fail "no system test's file name matches '$1'"
else
  dataplane
  typescript unit 2 60000 "${unit[@]}"
fi
# The model's hands on the devices; `cargo test` has built it already.
cargo build --quiet --locked --examples --manifest-path native/Cargo.toml --target-dir native/target
typescript system 2 "$limit" "${system[@]}"

left=$(leftovers)
if [ -n "$left" ]; then
  broken+=("something was left behind")
  printf '\nleft behind:\n%s\n' "$left"
fi

printf '\n%s\n' "$table"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
if [ "${#broken[@]}" -gt 0 ]; then
  printf 'failed: %s\n' "${broken[@]}" >&2
  exit 1
fi
