#!/usr/bin/env bash
# Makes what the virtual machine boots: Debian's cloud kernel and an initramfs with busybox, Node, vtepd and the
# kernel modules that a small cloud host has - all but vxlan.ko. Prints two lines: the kernel and the initramfs.
#
# The kernel package is downloaded and unpacked below .cache/vm, never installed. The initramfs is two archives one after
# the other, as the kernel allows: the base (80 MB of Node and modules, made once) and vtepd itself (made when it changed).
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

[ "$(uname -m)" = x86_64 ] || fail "the virtual machine is made for x86_64 only (this is $(uname -m))"
CACHE=$TOP/.cache/vm
mkdir -p "$CACHE"
exec 8>"$CACHE/lock"
flock 8

# Modules of the guest. tun is what vtepd needs; vxlan is left out on purpose.
MODULES="virtio_pci virtio_net tun bridge veth"

# --- kernel -----------------------------------------------------------------------------------------------------------
fetch_kernel() {
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  if [ -z "$package" ]; then
    say "apt-get update (no cloud kernel in the package lists)" >&2
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  fi
  [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64: the virtual machine needs Debian's package lists"
  say "downloading Debian's cloud kernel ($package)" >&2
  rm -rf "$CACHE/kernel" "$CACHE/fetch" && mkdir -p "$CACHE/fetch"
  (cd "$CACHE/fetch" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2) || fail "apt-get download $package failed; see above"
  dpkg-deb -x "$CACHE"/fetch/*.deb "$CACHE/fetch/tree"
  depmod -b "$CACHE/fetch/tree" "$(ls "$CACHE/fetch/tree/lib/modules")"
  rm "$CACHE"/fetch/*.deb
  mv "$CACHE/fetch/tree" "$CACHE/kernel" && rm -rf "$CACHE/fetch"
}
[ -e "$CACHE/kernel/boot" ] || fetch_kernel
VERSION=$(ls "$CACHE/kernel/lib/modules")
KERNEL=$CACHE/kernel/boot/vmlinuz-$VERSION
MODULE_DIR=$CACHE/kernel/lib/modules/$VERSION

# --- helpers ----------------------------------------------------------------------------------------------------------

# with_libraries ROOT PROGRAM TARGET: copies a program and the shared libraries that ldd names, at their own paths.
with_libraries() {
  local root=$1 program=$2 target=$3 library
  install -D -m 755 "$program" "$root$target"
  { ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
    [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
  done
}

# module_order NAME...: files of the modules with what they need before them, each once.
module_order() {
  local name
  for name in "$@"; do
    awk -v want="/$name.ko" '
      { file = $1; sub(/:$/, "", file) }
      substr(file, length(file) - length(want) + 1) == want { for (i = NF; i > 1; i--) print $i; print file }
    ' "$MODULE_DIR/modules.dep"
  done | awk '!seen[$0]++'
}

pack() { (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --quiet --null -o -H newc --owner 0:0 -R 0:0 2>/dev/null | gzip -1); }

digest() { sha256sum "$@" | sha256sum | cut -c1-16; }

# keep FILE PATTERN: older images of the same kind go.
keep() { find "$CACHE" -maxdepth 1 -name "$2" ! -path "$1" -delete; }

# --- base -------------------------------------------------------------------------------------------------------------
NODE=$(readlink -f "$(command -v node)")
KEY=$(digest "$NODE" /bin/busybox "$MODULE_DIR/modules.dep" "${BASH_SOURCE[0]}")
BASE=$CACHE/base-$KEY.cpio.gz
if [ ! -e "$BASE" ]; then
  say "packing the virtual machine's base: kernel $VERSION, busybox, Node $(node -p process.versions.node)" >&2
  root=$(mktemp -d "$CACHE/root.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,etc,usr/bin,var/lib,root}
  install -m 755 /bin/busybox "$root/bin/busybox"
  "$root/bin/busybox" --list | grep -v '^busybox$' | while read -r applet; do ln -s busybox "$root/bin/$applet"; done
  with_libraries "$root" "$NODE" /usr/bin/node
  : >"$root/etc/modules.order"
  # shellcheck disable=SC2086 # a list of words
  for file in $(module_order $MODULES); do
    case $file in */vxlan.ko) fail "the guest's modules depend on vxlan; it would not be the host we mean" ;; esac
    install -D -m 644 "$MODULE_DIR/$file" "$root/lib/modules/$(basename "$file")"
    printf '%s\n' "$(basename "$file")" >>"$root/etc/modules.order"
  done
  pack "$root" >"$BASE.part" && mv "$BASE.part" "$BASE"
  rm -rf "$root"
  keep "$BASE" 'base-*.cpio.gz'
fi

# --- vtepd ------------------------------------------------------------------------------------------------------------
BINARY=native/target/release/vtepd-dataplane
if ! [ -x "$BINARY" ] || ! [ -e dist/main.js ]; then fail "vtepd is not built: run npm run build"; fi
mapfile -t PROGRAMS < <(find dist bin scripts/vm/guest test/system/programs -type f | LC_ALL=C sort)
KEY=$(digest "${PROGRAMS[@]}" "$BINARY" package.json package-lock.json "${BASH_SOURCE[0]}")
APP=$CACHE/vtepd-$KEY.cpio.gz
if [ ! -e "$APP" ]; then
  say "packing vtepd for the virtual machine" >&2
  root=$(mktemp -d "$CACHE/root.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root/vtepd/native/target/release" "$root/vtepd/programs"
  cp -r dist bin package.json "$root/vtepd/"
  # Without its debug information, which is most of it.
  if have strip; then strip -o "$root/vtepd/$BINARY" "$BINARY"; else cp "$BINARY" "$root/vtepd/$BINARY"; fi
  with_libraries "$root" "$BINARY" /tmp/ignored && rm "$root/tmp/ignored"
  cp test/system/programs/*.mjs scripts/vm/guest/agent.mjs "$root/vtepd/programs/"
  install -m 755 scripts/vm/guest/init "$root/init"
  # What runs, without types, maps and texts.
  npm ls --omit=dev --all --parseable 2>/dev/null | tail -n +2 | sed "s|^$TOP/||" | grep '^node_modules/' |
    while read -r package; do
      find "$package" -path "$package/node_modules" -prune -o -type f \
        ! -name '*.ts' ! -name '*.mts' ! -name '*.cts' ! -name '*.map' ! -name '*.md' ! -name '*.proto' -print0
    done | xargs -0 cp --parents -t "$root/vtepd"
  pack "$root" >"$APP.part" && mv "$APP.part" "$APP"
  rm -rf "$root"
  keep "$APP" 'vtepd-*.cpio.gz'
fi

IMAGE=$CACHE/initramfs
if [ "$(cat "$CACHE/initramfs.parts" 2>/dev/null)" != "$BASE $APP" ]; then
  cat "$BASE" "$APP" >"$IMAGE.part" && mv "$IMAGE.part" "$IMAGE"
  printf '%s\n' "$BASE $APP" >"$CACHE/initramfs.parts"
fi
printf '%s\n%s\n' "$KERNEL" "$IMAGE"
