#!/usr/bin/env bash
# `npm run demo -- FLAGS`: sets up what is missing, builds, and runs demo/main.ts; `--help` lists the flags.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

purposes=(build demo)
for flag in "$@"; do
  case $flag in
    --etcd) purposes+=(etcd) ;;
    --vm) purposes+=(etcd vm) ;;
    --docker) purposes+=(etcd docker) ;;
    -h | --help) purposes=() ;;
  esac
done
if [ "${#purposes[@]}" -gt 0 ]; then
  bash scripts/setup.sh "${purposes[@]}"
  bash scripts/build.sh --no-setup
fi
exec node --import tsx demo/main.ts "$@"
