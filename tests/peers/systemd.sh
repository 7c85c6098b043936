#!/usr/bin/env bash
# The executor in units of a real systemd: groups are made in one that says Delegate=yes, and in no other. It is the first
# process of namespaces of its own, without network, with a root that it can't write to and no unit but those made here.
# Needs root, systemd, and a hierarchy of control groups of version 2 to make a group in.
#
#   tests/peers/systemd.sh ALLOD
set -eu
allod=$(readlink -f "$1")
die() { printf 'systemd: %s\n' "$*" >&2; exit 1; }
# What this machine gives to nobody is no peer that is absent.
not_here() { printf 'systemd: NOT TESTED: %s\n' "$*" >&2; exit 0; }

# Inside: $1 is the folder shared with the outside, $2 the binary.
inside() {
  local told=$1 binary=$2 root=/mnt/root
  mount -t tmpfs tmpfs /mnt
  mkdir "$root"
  mount --bind / "$root"
  mount -o remount,bind,ro "$root"
  for folder in tmp run var root home dev mnt; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
  # A systemd that could write to the machine would clear its /tmp.
  for folder in "" etc usr lib opt; do
    if touch "$root/$folder/written" 2>/dev/null; then die "/$folder of the machine could be written: not begun"; fi
  done
  for device in null zero full random urandom; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
  done
  touch "$root/dev/console"
  mkdir "$root/run/units" "$root/run/old" "$root/run/told" "$root/var/tmp" "$root/var/log"
  cp "$binary" "$root/run/allod"
  mount --bind "$told" "$root/run/told"
  mount -t proc proc "$root/proc"
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount -o remount,bind,ro "$root/proc/sys"
  [ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  for name in delegated plain; do
    cat >"$root/run/units/$name.service" <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Environment=NO_COLOR=1
ExecStartPre=/bin/mkdir -m 700 -p /run/$name/agent
ExecStart=/run/allod executor --state /run/$name --run /run/$name.run --listen /run/$name.sock
StandardOutput=null
StandardError=file:/run/told/$name.log
UNIT
  done
  echo 'Delegate=yes' >>"$root/run/units/delegated.service"
  cat >"$root/run/units/look.service" <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for n in \$(seq 100); do [ -s /run/told/delegated.log ] && [ -s /run/told/plain.log ] && break; sleep 0.1; done; cd /sys/fs/cgroup; find . -type d -path "*/allod*" >/run/told/groups.new; mv /run/told/groups.new /run/told/groups'
UNIT
  printf '[Unit]\nDefaultDependencies=no\nWants=delegated.service plain.service look.service\n' \
    >"$root/run/units/allod.target"
  cd "$root"
  pivot_root . run/old
  umount -l /run/old
  exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none \
    /lib/systemd/systemd --system --unit=allod.target --log-target=console --show-status=0 </dev/null >/dev/console 2>&1
}
if [ "${2:-}" = inside ]; then inside "$3" "$allod"; fi

[ "$(id -u)" = 0 ] || not_here "only root can begin another first process"
[ -x /lib/systemd/systemd ] || die "systemd is not here: run scripts/setup-peers"
mount=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
[ -n "$mount" ] || not_here "no control groups of version 2 are mounted here"
unshare --pid --fork --mount --cgroup --net --uts --ipc true 2>/dev/null || not_here "no namespaces here for another first process"
dir=$(mktemp -d)
group=$mount/allod-peer-$$
mkdir "$group" 2>/dev/null || { rm -rf "$dir"; not_here "no control group can be made in $mount"; }
booted=
finish() {
  [ -z "$booted" ] || kill -9 "$booted" 2>/dev/null || true
  # Nothing but what began here was ever in it.
  echo 1 >"$group/cgroup.kill" 2>/dev/null || true
  for _ in $(seq 100); do find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null; [ -d "$group" ] || break; sleep 0.05; done
  rm -rf "$dir"
}
trap finish EXIT
bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' begin "$group" \
  unshare --pid --fork --mount --cgroup --net --uts --ipc --propagation private --kill-child \
  bash "$(readlink -f "$0")" "$allod" inside "$dir" >"$dir/boot" 2>&1 &
booted=$!
disown
for _ in $(seq 300); do
  [ -e "$dir/groups" ] && break
  kill -0 "$booted" 2>/dev/null || die "systemd did not boot: $(cat "$dir/boot")"
  sleep 0.1
done
[ -e "$dir/groups" ] || die "systemd did not start the units within 30 s: $(cat "$dir/boot" "$dir"/*.log 2>/dev/null)"
grep -q '/delegated.service/allod/[0-9a-f]\{16\}$' "$dir/groups" ||
  die "no groups in the unit that was handed over: $(cat "$dir/groups" "$dir/delegated.log")"
grep -q '/plain.service/' "$dir/groups" && die "groups in a unit that was not handed over: $(cat "$dir/groups")"
grep -q 'Delegate=yes in the unit' "$dir/plain.log" || die "it is not said what to do: $(cat "$dir/plain.log")"
grep -q 'Delegate=yes in the unit' "$dir/delegated.log" && die "handed over and not seen: $(cat "$dir/delegated.log")"
exit 0
