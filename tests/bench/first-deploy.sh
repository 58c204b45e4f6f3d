#!/usr/bin/env bash
# A first deploy beside the same packages and services by a hand-written parallel shell script, in one run: fresh nodes for
# each, in turn. Prints both times and their ratio. FLOOR: the script, called as `floor.sh KEY PGMAJOR IP1 IP2 IP3`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PGCTL=${PGCTL:-target/debug/pgctl} FLOOR=${FLOOR:-../shared/bench/floor.sh} ROUNDS=${ROUNDS:-2} NET=10.10.28
[ -x "$FLOOR" ] || { echo "bench: there is no floor to measure against at $FLOOR (FLOOR=… names another)" >&2; exit 1; }
tmp=$(mktemp -d); inventory=$tmp/inventory.yml
trap '"$PGCTL" sandbox down "$inventory" >/dev/null; rm -rf "$tmp"' EXIT
sed "s/10\.10\.10\./$NET./g" inventories/sandbox.yml >"$inventory"
fresh() { "$PGCTL" sandbox down "$inventory" >/dev/null; "$PGCTL" sandbox up "$inventory" >/dev/null; }
seconds() { local t0; t0=$(date +%s%N); "$@" >"$tmp/log" 2>&1 || { tail -n 20 "$tmp/log" >&2; exit 1; }; echo $((($(date +%s%N) - t0) / 1000000)); }
"$PGCTL" sandbox up "$inventory" >/dev/null
key=$("$PGCTL" sandbox list "$inventory" --format json | sed -n 's/.*"key":"\([^"]*\)".*/\1/p')
for round in $(seq "$ROUNDS"); do
  fresh; floor=$(seconds "$FLOOR" "$key" 15 $NET.11 $NET.12 $NET.13)
  fresh; ours=$(seconds "$PGCTL" deploy -y "$inventory")
  again=$(seconds "$PGCTL" deploy -y "$inventory")
  awk -v r="$round" -v f="$floor" -v o="$ours" -v a="$again" 'BEGIN { printf "round %d: shell script %.1f s, pgctl deploy %.1f s (%.2f x), second deploy %.2f s\n", r, f/1000, o/1000, o/f, a/1000 }'
done
