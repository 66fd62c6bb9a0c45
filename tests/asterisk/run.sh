#!/usr/bin/env bash
# Usage: run.sh FOLDER CONF: Asterisk of FOLDER with the configuration of the folder CONF, in the foreground, in mounts of its
# own that go with it; run.sh FOLDER -rx COMMAND asks the one that runs.
set -euo pipefail
root=$1
if [ "$2" = -rx ]; then
  exec chroot "$root" asterisk -C /clutchcall/asterisk.conf -rx "$3"
fi
rm -rf "$root/clutchcall"
mkdir -p "$root/clutchcall/run" "$root/clutchcall/log" "$root/clutchcall/db" "$root/clutchcall/spool"
cp "$2"/*.conf "$root/clutchcall/"
for clip in "${SPEECH:-/usr/share/asterisk/sounds/en_US_f_Allison}"/vm-goodbye.wav; do
  [ ! -e "$clip" ] || cp "$clip" "$root/clutchcall/clip.wav"
done
# It asks for its own name as calls come in; without an answer of its own it stands until the resolver gives up (5 s).
printf '127.0.0.1 localhost %s\n' "$(hostname)" >"$root/etc/hosts"
exec unshare --mount --propagation private sh -c '
  mount --bind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" asterisk -f -C /clutchcall/asterisk.conf
' "$root"
