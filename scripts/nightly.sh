#!/usr/bin/env bash
# `npm run nightly -- [OFFLOADS...]`: the system suites in the whole matrix, offloads {all, no-uso, no-udp-gso, no-virtio} x underlay
# {veth, wire} x peer {vtepd, kernel}, and ten times as many cases of the model in each; about two hours. What is named is run
# alone. no-virtio: the TAP's header is there and says nothing, every frame whole and summed. `npm test` has a cut of it
# (offloads.test.ts). VTEPD_NIGHTLY_SUITES: other suites, as a pattern of file names.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

declare -A off=(
  [all]=""
  [no-uso]="tap_uso"
  [no-udp-gso]="udp_segment udp_gro"
  [no-virtio]="tap_tso tap_uso udp_segment udp_gro"
)
suites=${VTEPD_NIGHTLY_SUITES:-'/(byhand|docker|file|flannel[^/]*|golden|impaired|interop|matrix|model[^/]*|networks|options[^/]*|path-mtu|resilience|rules|wire)\.test'}

sets=("$@")
[ "${#sets[@]}" -gt 0 ] || sets=(all no-uso no-udp-gso no-virtio)
for name in "${sets[@]}"; do
  [ -n "${off[$name]+set}" ] || fail "no offloads '$name'; there are all, no-uso, no-udp-gso, no-virtio"
done

real=${VTEPD_DATAPLANE:-$TOP/native/target/release/vtepd-dataplane}
work=$(mktemp -d /tmp/vtepd-nightly.XXXXXX)
trap 'rm -rf "$work"' EXIT
export VTEPD_DATAPLANE=$work/dataplane
export VTEPD_MODEL_CASES=${VTEPD_MODEL_CASES:-600000}

# wrap OFFLOADS: $VTEPD_DATAPLANE starts the real one, and switches these off as soon as its control socket is there.
wrap() {
  cat >"$VTEPD_DATAPLANE" <<EOF
#!/bin/sh
before=''
for word; do
  if [ "\$before" = --socket ]; then
    ($(command -v node) '$TOP/test/system/programs/offloads-off.mjs' "\$word" $1 </dev/null >/dev/null 2>&1 &)
  fi
  before=\$word
done
exec '$real' "\$@"
EOF
  chmod +x "$VTEPD_DATAPLANE"
}

bad=()
# one OFFLOADS UNDERLAY PEER PATTERN
one() {
  say "nightly: offloads $1, underlay $2, peer $3"
  VTEPD_TEST_OFFLOADS_OFF=${off[$1]} VTEPD_TEST_UNDERLAY=$2 VTEPD_TEST_PEER=$3 bash scripts/test.sh "$4" || bad+=("offloads $1, underlay $2, peer $3")
}

for name in "${sets[@]}"; do
  wrap "${off[$name]}"
  for underlay in veth wire; do
    # Suites that have both peers (interop, model, byhand) have them in every run.
    one "$name" "$underlay" vtepd "$suites"
  done
  one "$name" wire kernel '/(matrix|wire)\.test'
done

if [ "${#bad[@]}" -gt 0 ]; then
  printf 'nightly failed: %s\n' "${bad[@]}" >&2
  exit 1
fi
say "nightly: all passed"
