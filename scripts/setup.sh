#!/usr/bin/env bash
# Installs what is missing for one or more purposes, and nothing else: `scripts/setup.sh PURPOSE...` with
#   build   npm packages, a C linker, a Rust toolchain        demo    what `npm run demo` calls
#   etcd    a real etcd and etcdctl                           vm      qemu, busybox and what packs an initramfs
#   test    everything `npm test` calls                       lint    clippy, rustfmt, shellcheck
#   bench   what `npm run bench` calls                        openvswitch   Open vSwitch, which it compares with
#   docker  a Docker daemon and its client, and busybox for its image
# A second run finds everything in place and does nothing.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

[ "$(uname -s)" = Linux ] || fail "vtepd runs on Linux only (this is $(uname -s))"
[ "$#" -gt 0 ] || fail "usage: scripts/setup.sh build|demo|etcd|vm|docker|test|lint|bench|openvswitch ..."

# One setup at a time: two npm or apt runs side by side break each other.
mkdir -p .cache
exec 9>.cache/setup.lock
flock -n 9 || { say "waiting for another setup to finish" && flock 9; }

missing=() # apt packages
purposes=" "

# need COMMAND PACKAGE...: remembers the packages when the command is not there.
need() {
  local command=$1
  shift
  have "$command" || missing+=("$@")
}

static_busybox() { [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static); }

need_root() { [ "$(id -u)" = 0 ] || fail "$1 needs root: it makes network namespaces and TAP devices; run it as root (sudo -E npm ...)"; }

collect() {
  case $purposes in *" $1 "*) return ;; esac
  purposes+="$1 "
  case $1 in
    build)
      need cc gcc libc6-dev
      ;;
    demo)
      need_root "the demo"
      need ip iproute2
      need ping iputils-ping
      need tcpdump tcpdump
      need ethtool ethtool
      need nsenter util-linux
      ;;
    bench)
      need_root "the benchmark"
      need ip iproute2
      need ping iputils-ping
      need taskset util-linux
      ;;
    openvswitch)
      need ovs-vswitchd openvswitch-switch
      ;;
    etcd)
      need etcd etcd-server
      need etcdctl etcd-client
      ;;
    vm)
      need_root "the virtual machine"
      need qemu-system-x86_64 qemu-system-x86
      static_busybox
      need cpio cpio
      need depmod kmod
      need dpkg-deb dpkg
      ;;
    docker)
      need_root "the Docker daemon"
      need dockerd docker.io
      # Debian 13 has the client in a package of its own, 12 in docker.io.
      have docker || ! apt-cache show docker-cli >/dev/null 2>&1 || missing+=(docker-cli)
      need iptables iptables
      need nft nftables
      static_busybox
      ;;
    test)
      need_root "the system tests"
      collect build
      collect demo
      collect etcd
      collect vm
      collect docker
      need tshark tshark
      need tcpreplay tcpreplay
      need ethtool ethtool
      need openssl openssl
      # npm compiles raw-socket, which `vtepd probe` may do without and its test may not.
      need python3 python3
      need make make
      need g++ g++
      need nft nftables
      need ps procps
      need promtool prometheus
      ;;
    lint)
      collect build
      need shellcheck shellcheck
      ;;
    *) fail "unknown purpose '$1': build, demo, etcd, vm, docker, test, lint, bench or openvswitch" ;;
  esac
}

check_node() {
  have node || fail "Node $NODE_MIN or newer is needed and no node is on the PATH"
  local version
  version=$(node -p process.versions.node)
  at_least "$version" "$NODE_MIN" || fail "Node $NODE_MIN or newer is needed; $(command -v node) is $version"
}

# Services of freshly installed packages (etcd) must not start: tests and demo run their own. Debian asks policy-rc.d.
without_services() {
  local policy=/usr/sbin/policy-rc.d mine=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && mine=1
  fi
  local status=0
  "$@" || status=$?
  [ -z "$mine" ] || rm -f "$policy"
  return "$status"
}

apt_updated=
apt_update() {
  [ -z "$apt_updated" ] || return 0
  say "apt-get update"
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update >&2 || fail "apt-get update failed; see above"
  apt_updated=1
}

apt_install() {
  [ "$#" -gt 0 ] || return 0
  have apt-get || fail "these are missing and there is no apt-get to install them: $*"
  [ "$(id -u)" = 0 ] || fail "these packages are missing and installing them needs root: apt-get install $*"
  local package known=1
  for package in "$@"; do
    apt-cache show "$package" >/dev/null 2>&1 || known=
  done
  [ -n "$known" ] || apt_update
  say "apt-get install $*"
  local install=(apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@")
  export DEBIAN_FRONTEND=noninteractive
  # Package lists that are out of date name files that the mirror no longer has: refresh them and try once more.
  without_services "${install[@]}" </dev/null >&2 || { apt_update && without_services "${install[@]}" </dev/null >&2; } ||
    fail "apt-get could not install: $*"
}

# apt_candidate PACKAGE: the version that apt would install, without epoch and Debian revision.
apt_candidate() {
  apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" { sub(/^[0-9]+:/, "", $2); sub(/[-+~].*/, "", $2); print $2 }'
}

# Debian keeps a recent Rust for building browsers (rustc-web); later releases may have a plain rustc that is new enough.
install_rust() {
  have apt-get || fail "no Rust >= $RUST_MIN found and no apt-get here: install it, for example with rustup (https://rustup.rs)"
  local try suffix candidate
  for try in 1 2; do
    for suffix in -web ""; do
      candidate=$(apt_candidate "rustc$suffix")
      case $candidate in [0-9]*) ;; *) continue ;; esac
      if at_least "$candidate" "$RUST_MIN"; then
        say "no Rust >= $RUST_MIN found: taking Debian's rustc$suffix $candidate"
        apt_install "rustc$suffix" "cargo$suffix"
        use_rust || fail "rustc$suffix was installed, yet no Rust >= $RUST_MIN is found; look at 'rustc --version' and 'cargo --version'"
        return
      fi
    done
    [ "$try" = 2 ] || apt_update
  done
  fail "Rust >= $RUST_MIN is needed and apt has none: install it, for example with rustup (https://rustup.rs), and run this again"
}

# clippy and rustfmt of the toolchain in use: rustup's components, else the packages beside Debian's rustc.
install_rust_linters() {
  cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 && return
  if have rustup && [ "$(dirname "$(command -v cargo)")" = "$(dirname "$(command -v rustup)")" ]; then
    say "rustup component add clippy rustfmt"
    rustup component add clippy rustfmt >&2
  elif dpkg -s rustc-web >/dev/null 2>&1; then
    apt_install rust-web-clippy rustfmt-web
  else
    apt_install rust-clippy rustfmt
  fi
}

npm_packages() {
  local stamp=node_modules/.vtepd-stamp want
  want=$(cat package.json package-lock.json | sha256sum)
  # Left out where there was no compiler.
  case $purposes in *" test "*) [ -d node_modules/raw-socket ] || rm -f "$stamp" ;; esac
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
  say "npm ci"
  npm ci --no-audit --no-fund </dev/null >&2 || fail "npm ci failed; see above"
  printf '%s\n' "$want" >"$stamp"
}

for purpose in "$@"; do
  collect "$purpose"
done
check_node
apt_install "${missing[@]}"
npm_packages
case $purposes in *" build "*) use_rust || install_rust ;; esac
case $purposes in *" lint "*) install_rust_linters ;; esac
