#!/usr/bin/env bash
# A person's own tools over a mesh of our own: real ssh, scp, rsync and curl, from one place on it to another, through `allod connect`,
# `allod forward`, `allod socks` and `allod serve`. Everything is on loopback; what is carried goes through WireGuard between two nodes.
#
#   tests/peers/mesh-tools.sh ALLOD
set -eu

die() { printf 'mesh tools: %s\n' "$*" >&2; [ -z "${dir-}" ] || tail -n 5 "$dir"/*.err >&2 || true; exit 1; }
allod=$(readlink -f "${1:?the binary}")
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || die "sshd is not here: run scripts/setup-peers"
for tool in ssh scp rsync curl ssh-keygen; do
  command -v "$tool" >/dev/null || die "$tool is not here: run scripts/setup-peers"
done

# Short: sockets are below it.
dir=$(mktemp -d /tmp/amt-XXXXXX)
chmod 755 "$dir"
pids=()
finish() {
  ALLOD_HOME="$dir/ana" "$allod" --yes leave >/dev/null 2>&1 || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT
# until_said FILE WORD: waits for a line with it.
until_said() {
  for _ in $(seq 600); do ! grep -qs "$2" "$1" || return 0; sleep 0.1; done
  die "nobody said $2 in ${1##*/}"
}

"$allod" up --state "$dir/s" --json >"$dir/up.out" 2>"$dir/up.err" &
pids+=("$!")
until_said "$dir/up.out" '"event":"ready"'
ana() { ALLOD_HOME="$dir/ana" "$allod" "$@"; }
mkdir "$dir/ana"
"$allod" hub --state "$dir/s" keys create >"$dir/token" 2>"$dir/keys.err" || die "no token"
ana join - --name ana-laptop <"$dir/token" >"$dir/join.out" 2>"$dir/join.err" || die "she did not join"

# Her sshd, on loopback, and on the mesh for the owner's machine alone.
for key in host own; do ssh-keygen -q -t ed25519 -N '' -f "$dir/$key"; done
port=0
for _ in $(seq 50); do
  port=$((20000 + RANDOM % 40000))
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
cp "$dir/own.pub" "$dir/authorized"
cat >"$dir/sshd_config" <<END
ListenAddress 127.0.0.1:$port
HostKey $dir/host
PidFile none
AuthorizedKeysFile $dir/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
Subsystem sftp internal-sftp
END
[ "$(id -u)" != 0 ] || mkdir -p -m 755 /run/sshd
"$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.err" &
pids+=("$!")
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
ALLOD_HOME="$dir/ana" "$allod" --json serve "22:$port" --for local-operator >"$dir/serve.out" 2>"$dir/serve.err" &
pids+=("$!")
until_said "$dir/serve.out" listens

printf 'ana-laptop %s\n' "$(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/known"
cat >"$dir/ssh_config" <<END
Host *
  ProxyCommand env ALLOD_HOME=$dir/s/client $allod connect %h %p
  UserKnownHostsFile $dir/known
  StrictHostKeyChecking yes
  IdentityFile $dir/own
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  ConnectTimeout 30
END
over="ssh -F $dir/ssh_config"
said=$($over ana-laptop echo heard) || die "ssh: $said"
[ "$said" = heard ] || die "ssh heard $said"
head -c 3000000 /dev/urandom >"$dir/file"
scp -q -F "$dir/ssh_config" "$dir/file" "ana-laptop:$dir/copied" || die "scp"
cmp "$dir/file" "$dir/copied" || die "scp changed it"
mkdir "$dir/tree"
head -c 400000 /dev/urandom >"$dir/tree/a"
rsync -a -e "$over" "$dir/tree/" "ana-laptop:$dir/tree2/" || die "rsync"
cmp "$dir/tree/a" "$dir/tree2/a" || die "rsync changed it"
if $over nobody-here true 2>/dev/null; then die "ssh found nobody"; fi

# The hub's page, by curl, three ways; and nothing but the mesh behind the proxy.
ALLOD_HOME="$dir/s/client" "$allod" --json forward 0:local:9845 >"$dir/forward.out" 2>"$dir/forward.err" &
pids+=("$!")
ALLOD_HOME="$dir/s/client" "$allod" --json socks --listen 127.0.0.1:0 >"$dir/socks.out" 2>"$dir/socks.err" &
pids+=("$!")
until_said "$dir/forward.out" listens
until_said "$dir/socks.out" listens
place() { grep -o '"listens":"[^"]*"' "$1" | cut -d'"' -f4; }
curl -sSf --max-time 30 "http://$(place "$dir/forward.out")/status.json" | grep -q '"servers"' || die "curl through forward"
socks=socks5h://$(place "$dir/socks.out")
address=$(grep -o '"management":"[^"]*"' "$dir/up.out" | head -n 1 | cut -d'"' -f4)
curl -sSf --max-time 30 --proxy "$socks" "http://${address%:*}:9845/status.json" | grep -q '"servers"' || die "curl through socks"
# 97: the proxy said no. Her sshd listens there.
code=0
curl -sS --max-time 30 --proxy "$socks" "http://127.0.0.1:$port/" >/dev/null 2>&1 || code=$?
[ "$code" = 97 ] || die "socks leads off the mesh: curl ended with $code"

# Whom she did not name gets nothing: her own second place.
mkdir "$dir/bob"
"$allod" hub --state "$dir/s" keys create >"$dir/token" 2>"$dir/keys.err" || die "no token"
ALLOD_HOME="$dir/bob" "$allod" join - --name bob <"$dir/token" >/dev/null 2>"$dir/join.err" || die "bob did not join"
heard=$(ALLOD_HOME="$dir/bob" timeout 20 "$allod" connect ana-laptop 22 </dev/null 2>/dev/null || true)
ALLOD_HOME="$dir/bob" "$allod" --yes leave >/dev/null || die "bob did not leave"
[ -z "$heard" ] || die "bob heard $heard"
