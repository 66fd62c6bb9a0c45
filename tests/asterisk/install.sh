#!/usr/bin/env bash
# Usage: install.sh FOLDER. Asterisk 22 in a Debian of its own: bookworm and trixie have no package of it. Needs root, half a
# minute and 650 MB; does nothing where it is there already.
set -euo pipefail
root=$1 suite=${SUITE:-forky} mirror=${MIRROR:-http://deb.debian.org/debian}
[ -x "$root/usr/sbin/asterisk" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "root is needed for a folder with a Debian of its own"; exit 1; }
command -v debootstrap >/dev/null || {
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap >/dev/null
}
mkdir -p "$root"
# An older debootstrap does not know the newer suites by name; all of them are made alike.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase "$suite" "$root" "$mirror" "$script" >"$root.log" 2>&1 || { tail -5 "$root.log"; exit 1; }
# What leads to the mirror here leads there from inside, too.
cp /etc/resolv.conf "$root/etc/resolv.conf"
apt-config dump | grep -i '^Acquire::.*proxy' >"$root/etc/apt/apt.conf.d/proxy" || rm -f "$root/etc/apt/apt.conf.d/proxy"
install() { DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq install -y --no-install-recommends "$@"; }
install asterisk >>"$root.log" 2>&1 || { tail -5 "$root.log"; exit 1; }
chroot "$root" apt-get clean
chroot "$root" asterisk -V
