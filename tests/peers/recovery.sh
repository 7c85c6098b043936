#!/usr/bin/env bash
# Recovery through a real sshd, on loopback and over the mesh: a recovery key gets the closed list and nothing that sshd could give
# besides; and a new person adds the server to their own, reading over SSH who it is.
# As root the recovery user has a uid of its own, in a mount namespace with its own passwd; else it is whoever runs this.
#
#   tests/peers/recovery.sh ALLOD
set -eu

die() { printf 'recovery: %s\n' "$*" >&2; [ -z "${dir-}" ] || tail -n 5 "$dir"/*.log >&2 || true; exit 1; }
allod=$(readlink -f "${1:?the binary}")
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || die "sshd is not here: run scripts/setup-peers"

own_uid=61300
if [ "$(id -u)" = 0 ] && [ -z "${ALLOD_IN_NAMESPACE-}" ]; then
  if unshare --mount true 2>/dev/null; then
    export ALLOD_IN_NAMESPACE=yes
    exec unshare --mount "$0" "$@"
  fi
  printf 'recovery: NOT TESTED: no mount namespace here, so no recovery user of its own\n' >&2
  exit 0
fi

dir=$(mktemp -d)
chmod 755 "$dir"
up=
server=
finish() {
  [ ! -e "$dir/ana" ] || ALLOD_HOME="$dir/ana" "$allod" --yes leave >/dev/null 2>&1 || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$up" ] || { kill "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; }
  rm -rf "$dir"
}
trap finish EXIT

user=$(id -un)
flags=
mkdir -m 755 "$dir/home"
if [ "$(id -u)" = 0 ]; then
  user="allod-recovery"
  flags="--recovery-uid $own_uid --first-uid 64000"
  mount --make-rprivate /
  { cat /etc/passwd; echo "$user:x:$own_uid:$own_uid::$dir/home:/bin/sh"; } >"$dir/passwd"
  mount --bind "$dir/passwd" /etc/passwd
  mount -t tmpfs -o mode=755 none /run
  mkdir -m 755 /run/sshd
fi

port=0
for _ in $(seq 50); do
  port=$((20000 + RANDOM % 40000))
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
# shellcheck disable=SC2086  # words
"$allod" up --forward "22=127.0.0.1:$port" --state "$dir/s" --json $flags >"$dir/up.json" 2>"$dir/up.log" &
up=$!
for _ in $(seq 600); do
  grep -q '"event":"ready"' "$dir/up.json" && break
  kill -0 "$up" 2>/dev/null || die "allod up ended"
  sleep 0.1
done
field() { grep '"event":"ready"' "$dir/up.json" | grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4; }
run=$(field run) identity=$(field identity) management=$(field management)
[ -n "$identity" ] || die "allod up was not ready"
export ALLOD_HOME="$dir/s/client"

for key in host look drawer stranger new; do ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$dir/$key"; done
recover="$dir/s/bin/allod recover --run $run"
cat >"$dir/authorized" <<END
restrict,command="$recover" $(cut -d' ' -f1,2 "$dir/look.pub") on-call
restrict,command="$recover --enrol" $(cut -d' ' -f1,2 "$dir/drawer.pub") drawer
END
# Everything that sshd can give is on: what is refused is refused by the key's line.
cat >"$dir/sshd_config" <<END
ListenAddress 127.0.0.1:$port
HostKey $dir/host
PidFile none
AuthorizedKeysFile $dir/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
ExposeAuthInfo yes
PermitTTY yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
PermitTunnel yes
PermitUserRC yes
X11Forwarding yes
Subsystem sftp internal-sftp
END
"$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
server=$!
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/known"
options=(-F none -p "$port" -o "UserKnownHostsFile=$dir/known" -o StrictHostKeyChecking=yes -o BatchMode=yes
  -o IdentitiesOnly=yes -o IdentityAgent=none -o ConnectTimeout=30)
# over KEY [SSH'S WORDS…]: what ssh says is in $dir/out and $dir/err, its code is the function's.
over() {
  local key=$1
  shift
  ssh "${options[@]}" -i "$dir/$key" "$@" >"$dir/out" 2>"$dir/err"
}
at=$user@127.0.0.1
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done

# refused WANTED KEY WORDS…: with this exit code, and nothing on stdout.
refused() {
  local wanted=$1 code=0
  shift
  over "$@" </dev/null || code=$?
  [ "$code" = "$wanted" ] || die "$*: ended with $code, not $wanted: $(cat "$dir/err")"
  [ ! -s "$dir/out" ] || die "$*: said $(cat "$dir/out")"
}
refused 255 stranger "$at" doctor
proof=$dir/home/proof
for asked in "doctor; touch $proof" "doctor && touch $proof" "\$(touch $proof)" "\`touch $proof\`" "doctor
touch $proof" "doctor | tee $proof" "doctor > $proof" "touch $proof" "sh -c 'touch $proof'" "doctor now" "restart -f" \
  "enrol --role owner" "internal-sftp" "/bin/sh" "$(printf 'x%.0s' $(seq 5000))"; do
  refused 2 drawer "$at" "$asked"
  grep -q refused "$dir/err" || die "$asked: $(cat "$dir/err")"
done
refused 2 look "$at"
refused 255 look -tt "$at" doctor
grep -q 'PTY allocation request failed' "$dir/err" || die "a pty was given: $(cat "$dir/err")"
refused 2 drawer -s "$at" sftp
if scp -q "${options[@]}" -P "$port" -i "$dir/drawer" "$at:/etc/passwd" "$dir/copy" >/dev/null 2>&1; then die "scp copied"; fi
[ ! -e "$dir/copy" ] || die "scp left a file"
refused 255 drawer -W "$management" "$at"
grep -q 'prohibited' "$dir/err" || die "forwarding was refused otherwise: $(cat "$dir/err")"
refused 255 drawer -o ExitOnForwardFailure=yes -N -R "0:127.0.0.1:1" "$at"
refused 255 drawer -o ExitOnForwardFailure=yes -N -R "$dir/home/forwarded.sock:127.0.0.1:1" "$at"
refused 4 look "$at" "enrol $(cut -d' ' -f1,2 "$dir/new.pub")"
[ ! -e "$proof" ] || die "something ran that is not in the list"

over look "$at" doctor </dev/null || die "doctor: $(cat "$dir/err")"
grep -q '^good *agent' "$dir/out" || die "doctor says $(cat "$dir/out")"
over look "$at" identity </dev/null || die "identity: $(cat "$dir/err")"
grep -qF "$identity" "$dir/out" || die "identity says $(cat "$dir/out")"

# A new person, on a machine of their own: each step of `servers add` fails in turn, and nothing is saved before the last.
mkdir -m 700 "$dir/ana"
ana() { ALLOD_HOME="$dir/ana" ALLOD_SSH="$dir/ssh" "$allod" "$@"; }
"$allod" hub --state "$dir/s" keys create >"$dir/token" 2>"$dir/keys.err" || die "no token"
ana join - --name ana-laptop <"$dir/token" >"$dir/out" 2>"$dir/err" || die "ana did not join: $(cat "$dir/err")"
add() {
  local step=$1
  shift
  if ana --key "$dir/ana.key" servers add "$@" >"$dir/out" 2>"$dir/err"; then die "$step: it was added"; fi
  grep -qF "$step" "$dir/err" || die "it was not $step that failed: $(cat "$dir/err")"
  [ ! -e "$dir/ana/servers.toml" ] || die "$step: something was saved"
}
# known KEY, login KEY: whom her ssh believes the host to be, and which key it logs in with.
her_ssh() {
  printf '#!/bin/sh\nexec ssh -F none -o UserKnownHostsFile=%s -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o IdentityAgent=none -i %s "$@"\n' \
    "$dir/$1" "$dir/$2" >"$dir/ssh"
  chmod 755 "$dir/ssh"
}
ssh-keygen -q -t ed25519 -N '' -C ana -f "$dir/ana.key"
printf 'local %s\n' "$(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/her-known"
printf 'local %s\n' "$(cut -d' ' -f1,2 "$dir/stranger.pub")" >"$dir/her-other"
her_ssh her-known look
mesh_address=${management%:*}
add 'look up the address' nobody-here
add 'check the address' 192.0.2.7
add 'look for it on the mesh' 100.64.99.99
add 'ask who is there' local:9
her_ssh her-other look; add 'read the identity over SSH' local --recovery "$user@local"
grep -qi 'host key' "$dir/err" || die "another host key: $(cat "$dir/err")"
her_ssh her-known stranger; add 'read the identity over SSH' local --recovery "$user@local"
her_ssh her-known look
add 'compare the identity' local --recovery "$user@local" --identity "$(ssh-keygen -lf "$dir/stranger.pub" | cut -d' ' -f2)"
add 'make a signed call' local --recovery "$user@local"
"$allod" --yes keys add "$dir/ana.key.pub" --role operator >/dev/null || die "keys add"
# At the usual door where the recovery user has its own name, else where it is said.
door=
[ "$user" = allod-recovery ] || door="--recovery $user@local"
# shellcheck disable=SC2086  # words
ana --key "$dir/ana.key" servers add local $door >"$dir/out" 2>"$dir/err" || die "servers add: $(cat "$dir/err")"
grep -qF "$identity" "$dir/ana/servers.toml" || die "another identity was pinned"
ana servers status >/dev/null || die "she does not get there"
cp "$dir/ana/servers.toml" "$dir/before"
if ana --key "$dir/ana.key" servers add "$mesh_address" --name again >/dev/null 2>&1; then die "one server was added twice"; fi
cmp -s "$dir/before" "$dir/ana/servers.toml" || die "a refusal changed what was there"
ana --yes leave >/dev/null || die "leave"

# Every key is lost: the drawer's makes a new one an owner's.
if "$allod" --key "$dir/new" keys list >/dev/null 2>&1; then die "the new key is known already"; fi
over drawer "$at" enrol <"$dir/new.pub" || die "enrol: $(cat "$dir/err")"
# The agent looks for changes of the keys twice a second.
for _ in $(seq 100); do
  "$allod" --key "$dir/new" keys list >"$dir/keys" 2>/dev/null && break
  sleep 0.1
done
grep -q recovered-new "$dir/keys" || die "the new owner has another name: $(cat "$dir/keys")"
"$allod" --json --key "$dir/new" audit show --last 50 >"$dir/record"
grep -q 'recovery.enrol' "$dir/record" || die "the record does not say it"
grep -qF "told $(ssh-keygen -lf "$dir/drawer.pub" | cut -d' ' -f2)" "$dir/record" || die "the record does not say which key"

# The agent hangs.
agent=$(grep -o '"agent":[0-9]*' "$dir/up.json" | head -n 1 | cut -d: -f2)
kill -STOP "$agent"
for _ in $(seq 60); do
  code=0
  over look "$at" restart </dev/null || code=$?
  [ "$code" = 6 ] || break
  sleep 0.5
done
[ "$code" = 0 ] || die "restart ended with $code: $(cat "$dir/err")"
for _ in $(seq 100); do
  "$allod" --key "$dir/new" servers status >/dev/null 2>&1 && break
  sleep 0.2
done
"$allod" --key "$dir/new" audit verify >/dev/null || die "the server did not come back"
