#!/usr/bin/env bash
# The gate through a real sshd on loopback: a machine that has ssh and a key gets exactly its named commands, whatever sshd
# could give besides and whatever it asks for. Each attack of the list has its name. As root only: the gate's user has a uid
# of its own, in a mount namespace with its own passwd, sshd settings and folders.
#
#   tests/peers/gate.sh ALLOD
set -eu

die() { printf 'gate: %.600s\n' "$*" >&2; [ -z "${dir-}" ] || tail -n 5 "$dir"/*.log >&2 || true; exit 1; }
say() { [ -z "${ALLOD_VERBOSE-}" ] || printf '   gate: %s\n' "$*"; }
allod=$(readlink -f "${1:?the binary}")
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || die "sshd is not here: run scripts/setup-peers"

# Of this run alone, as are the sleeps below: other runs may be at work on this machine.
own_uid=$((1100000 + $$ % 100000))
slow=2000$$
stubborn=3000$$
user=allod-gate
if [ "$(id -u)" != 0 ]; then
  printf 'gate: NOT TESTED: it takes root to give callers a user of their own\n' >&2
  exit 0
fi
if [ -z "${ALLOD_IN_NAMESPACE-}" ]; then
  if unshare --mount true 2>/dev/null; then
    export ALLOD_IN_NAMESPACE=yes
    exec unshare --mount "$0" "$@"
  fi
  printf 'gate: NOT TESTED: no mount namespace here, so no user of its own\n' >&2
  exit 0
fi

# Folders that only root can have put there, as sshd and the executor want them.
mount --make-rprivate /
for place in /srv /run /usr/local/sbin /etc/ssh; do mount -t tmpfs -o mode=755 none "$place"; done
dir=/srv
mkdir -m 755 /run/sshd /etc/ssh/sshd_config.d "$dir/home" "$dir/bin"
cp "$allod" "$dir/bin/allod"
allod=$dir/bin/allod
up=
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$up" ] || { kill "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; }
}
trap finish EXIT

{ cat /etc/passwd; echo "$user:x:$own_uid:$own_uid::/:/usr/local/sbin/allod-gate"; } >"$dir/passwd"
mount --bind "$dir/passwd" /etc/passwd
{ cat /etc/shadow; echo "$user:*:20000::::::"; } >"$dir/shadow"
chmod 600 "$dir/shadow"
mount --bind "$dir/shadow" /etc/shadow

touch "$dir/sshd.log"
chmod 644 "$dir/sshd.log"
"$allod" up --mesh loopback --state "$dir/s" --json --first-uid 64000 --gate-uid $own_uid --sshd-log "$dir/sshd.log" \
  >"$dir/up.json" 2>"$dir/up.log" &
up=$!
for _ in $(seq 600); do
  grep -q '"event":"ready"' "$dir/up.json" && break
  kill -0 "$up" 2>/dev/null || die "allod up ended"
  sleep 0.1
done
field() { grep '"event":"ready"' "$dir/up.json" | grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4; }
pid_of() { grep -o "\"$1\":[0-9]*" "$dir/up.json" | tail -n 1 | cut -d: -f2; }
run=$(field run) management=$(field management)
[ -n "$management" ] || die "allod up was not ready"
mkdir /run/allod
mount --bind "$run" /run/allod
export ALLOD_HOME="$dir/s/client"

for key in host builder other owner stranger elsewhere expired late authority; do
  ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$dir/$key"
done
port=0
for _ in $(seq 50); do
  port=$((20000 + RANDOM % 40000))
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
# Everything that sshd can give is on: what is refused is refused by the gate's own settings.
cat >/etc/ssh/sshd_config <<END
Include /etc/ssh/sshd_config.d/*.conf
ListenAddress 127.0.0.1:$port
HostKey $dir/host
PidFile none
StrictModes yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 300
PermitTTY yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
PermitTunnel yes
PermitUserRC yes
X11Forwarding yes
AcceptEnv *
TrustedUserCAKeys $dir/authority.pub
Subsystem sftp internal-sftp
END

gate() { "$allod" gate "$@" --state "$dir/s"; }
keys=$dir/s/gate/authorized_keys
found() { if gate doctor >"$dir/doctor"; then die "doctor does not find $1"; fi; grep -q "$1" "$dir/doctor" || die "$1: $(cat "$dir/doctor")"; }
d3_install_writes_what_doctor_finds_good_and_doctor_finds_each_thing_that_is_not() {
  if gate doctor >"$dir/doctor"; then die "doctor finds nothing before there is a gate"; fi
  gate install --print --caller builder --key "$dir/builder.pub" >"$dir/plan"
  [ ! -e /etc/ssh/sshd_config.d/50-allod-gate.conf ] || die "--print has written"
  grep -q 'ForceCommand /usr/local/sbin/allod-gate' "$dir/plan" || die "the plan: $(cat "$dir/plan")"
  gate install --caller builder --key "$dir/builder.pub" --from 127.0.0.0/8 --expires 20991231 >"$dir/installed" ||
    die "install: $(cat "$dir/installed")"
  line=$(grep '^restrict,command=' "$keys") || die "no line for builder: $(cat "$keys")"
  case $line in
    "restrict,command=\"$dir/s/bin/allod gate --run $run --caller builder\",from=\"127.0.0.0/8\",expiry-time=\"20991231000000Z\" ssh-ed25519 "*) ;;
    *) die "the line is $line" ;;
  esac
  [ "$(stat -c '%u %a' "$keys")" = "0 644" ] || die "the file of keys: $(stat "$keys")"
  gate doctor >"$dir/doctor" || die "doctor: $(cat "$dir/doctor")"
  grep -q '^good *gate' "$dir/doctor" || die "doctor says $(cat "$dir/doctor")"
  cp "$keys" "$dir/keys.good"
  sed 's/^restrict,//' "$dir/keys.good" >"$keys"; found 'does not begin with restrict'
  sed 's/^restrict,/restrict,pty,/' "$dir/keys.good" >"$keys"; found 'does not begin with restrict'
  sed 's/,from=/,port-forwarding,from=/' "$dir/keys.good" >"$keys"; found 'gives back'
  cp "$dir/keys.good" "$keys"
  chmod 666 "$keys"; found 'can be changed by others'; chmod 644 "$keys"
  printf 'PermitUserEnvironment yes\n' >/etc/ssh/sshd_config.d/10-other.conf; found PermitUserEnvironment
  printf 'Match User %s\n  ForceCommand /bin/sh\n  PermitTTY yes\n' "$user" >/etc/ssh/sshd_config.d/10-other.conf; found 'ForceCommand is /bin/sh'
  if gate install >"$dir/installed" 2>&1; then die "install does not see what another file says"; fi
  grep -q 'ForceCommand is /bin/sh' "$dir/installed" || die "install: $(cat "$dir/installed")"
  rm /etc/ssh/sshd_config.d/10-other.conf
  gate doctor >/dev/null || die "doctor: it was put right"
}

d3_install_writes_what_doctor_finds_good_and_doctor_finds_each_thing_that_is_not

"$sshd" -D -E "$dir/sshd.log" -f /etc/ssh/sshd_config &
server=$!
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/known"
options=(-F none -p "$port" -o "UserKnownHostsFile=$dir/known" -o StrictHostKeyChecking=yes -o BatchMode=yes
  -o IdentitiesOnly=yes -o IdentityAgent=none -o ConnectTimeout=30)
at=$user@127.0.0.1
# over KEY [SSH'S WORDS…]: what ssh says is in $dir/out and $dir/err, its code is the function's.
over() {
  local key=$1
  shift
  timeout 60 ssh "${options[@]}" -i "$dir/$key" "$@" >"$dir/out" 2>"$dir/err"
}
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done

# Without the backslashes of two layers of JSON.
audit() {
  "$allod" --json audit show --last 1000 >"$dir/lines" 2>/dev/null || die "the record can't be read"
  tr -d '\\' <"$dir/lines" >"$dir/record"
}
# recorded TEXT [TIMES]: a line of the record by the gate's door says it; reads may take a second to be there.
recorded() {
  local many=0
  for _ in $(seq 50); do
    audit
    many=$(grep -oF -e "$1" "$dir/record" | wc -l)
    [ "$many" -lt "${2:-1}" ] || return 0
    sleep 0.1
  done
  die "the record has $1 only $many times"
}
# refused WANTED KEY WORDS…: with this exit code, and nothing on stdout.
refused() {
  local wanted=$1 code=0
  shift
  over "$@" </dev/null || code=$?
  [ "$code" = "$wanted" ] || die "$*: ended with $code, not $wanted: $(cat "$dir/err")"
  [ ! -s "$dir/out" ] || die "$*: said $(cat "$dir/out")"
}
proof=$dir/home/proof
untouched() { [ ! -e "$proof" ] || die "something ran that is not in the list"; }

x1_options_and_words_that_are_no_parameter_are_refused() {
  for asked in "hello --force" "hello -f" "hello --" "hello name=-rf" "hello ./x" "hello x" "hello a@file:///etc/shadow" \
    "git+https://evil.example/x" "./hello" "/bin/sh" "pip_install_-r/etc/shadow" "pip_install_--index-url=http://evil.example"; do
    refused 2 builder "$at" "$asked"
    grep -q '^allod: refused: ' "$dir/err" || die "$asked: $(cat "$dir/err")"
  done
  recorded 'pip_install_-r/etc/shadow'
  recorded 'hello name=-rf'
}

x2_what_means_something_to_a_shell_is_refused_and_starts_nothing() {
  for asked in "hello; touch $proof" "hello && touch $proof" "\$(touch $proof)" "\`touch $proof\`" "hello | tee $proof" \
    "hello > $proof" "touch $proof" "sh -c 'touch $proof'" "hello name=\$(id)" "hello name=*" "hello  name=a" " hello" \
    "hello " "hello name='a'" 'hello name="a"' "hello name=a\\b" "hello	name=a" "hello {a,b}" "hello ~" "hello #x" \
    "IFS=x;hello"; do
    refused 2 builder "$at" "$asked"
  done
  untouched
  recorded 'hello; touch '
}

x3_line_ends_are_refused_and_are_one_line_of_the_record() {
  for asked in "hello
touch $proof" "hello
" $'hello\r' $'hello\u0085' $'hello\u2028touch' $'\nhello'; do
    refused 2 builder "$at" "$asked"
  done
  untouched
  recorded 'x0atouch'
}

x4_what_is_no_plain_letter_is_refused() {
  for asked in $'hell\u043e' $'hello\u200b' $'he\u0301llo' $'hello\xff' $'\xc0\xaf' "HELLO" "Hello" $'hello\x7f' $'\e[2Jhello'; do
    refused 2 builder "$at" "$asked"
  done
  recorded 'xff'
}

x5_what_is_too_long_is_refused() {
  for length in 4097 131000 131050; do
    refused 2 builder "$at" "$(head -c "$length" /dev/zero | tr '\0' a)"
    grep -q "it has $length bytes" "$dir/err" || die "$length: $(cat "$dir/err")"
  done
  recorded 'of 131050 bytes'
  refused 2 builder "$at" "$(head -c 4096 /dev/zero | tr '\0' a)"
  recorded 'of 4096 bytes'
}

# The kernel runs no program with a longer variable: only sshd sees it, and the agent reads that in sshd's log.
x5_what_is_longer_than_a_program_can_be_run_with_is_refused() {
  sent_long 131051
  sent_long 131067
  sent_long 200000
  sent_long 262144
}

sent_long() {
  # Longer than ssh takes as one word: it reads it as many.
  local words=() left=$1
  while [ "$left" -gt 0 ]; do words+=("$(head -c $((left < 65535 ? left : 65535)) /dev/zero | tr '\0' a)"); left=$((left - 65536)); done
  local code=0
  over builder "$at" "${words[@]}" </dev/null || code=$?
  if [ "$code" = 0 ] || [ "$code" = 124 ] || [ -s "$dir/out" ]; then die "$1 bytes: ended with $code: $(cat "$dir/err")"; fi
}
x11_what_looks_like_a_line_of_the_record_is_text_in_one() {
  refused 2 builder "$at" $'hello","decision":"allow'
  recorded 'decision'
}

editors=$(for program in vi ed less more nano; do ! command -v "$program" >/dev/null || printf '%s ' "$program"; done)

# What root declares, from here on.
declare_commands() {
  local folder=$dir/s/commands.d
  mkdir -p "$folder"
  mkdir -m 1777 "$dir/open"
  # shellcheck disable=SC2016  # the scripts' own
  {
    printf '#!/bin/sh\nmkdir %s/open/lock || exit 9\nsleep 0.1\nrmdir %s/open/lock\n' "$dir" "$dir" >"$dir/bin/exclusive"
    printf '#!/bin/sh\ntrap "" TERM HUP\nsetsid sleep %s &\nsleep %s\n' $stubborn $stubborn >"$dir/bin/stubborn"
    printf '#!/bin/sh\nsleep 2\n: >%s/open/finished\n' "$dir" >"$dir/bin/finish"
    printf '#!/bin/sh\nexit 7\n' >"$dir/bin/seven"
    printf '#!/bin/sh\necho begun\nsleep 1\necho done\nexit 5\n' >"$dir/bin/job"
    printf '#!/bin/sh\n%s\n%s\n%s\n%s\n' 'grep NoNewPrivs /proc/self/status' "$dir/bin/as-root -u" \
      'for fd in 0 1 2; do [ -t $fd ] && echo tty; done' '(exec 3<>/dev/tty) 2>/dev/null && echo tty; true' >"$dir/bin/escape"
  }
  chmod 755 "$dir"/bin/*
  cp "$(command -v id)" "$dir/bin/as-root"
  chmod 4755 "$dir/bin/as-root"
  printf 'only a line\n' >"$dir/open/text"
  chmod 644 "$dir/open/text"
  define() { { printf 'summary = "%s"\ncallers = ["%s"]\n' "$1" "${2:-builder}"; cat; } >"$folder/$1.toml"; }
  define hello <<<'exec = ["/usr/bin/printf", "%s\n", "hello {name}"]
params.name = { pattern = "[a-z]+", max_length = 20 }'
  define others other <<<'exec = ["/usr/bin/true"]'
  define environment <<<'exec = ["/usr/bin/env"]
env = { A = "b" }'
  define exclusive <<<"exec = [\"$dir/bin/exclusive\"]
interpreter = [\"/bin/sh\"]
queue = 8"
  define flood <<<'exec = ["/usr/bin/yes"]
output_limit = "64KB"
timeout = "3s"'
  define stubborn <<<"exec = [\"$dir/bin/stubborn\"]
interpreter = [\"/bin/sh\"]
timeout = \"2s\""
  define seven <<<"exec = [\"$dir/bin/seven\"]
interpreter = [\"/bin/sh\"]"
  define slow <<<"exec = [\"/usr/bin/sleep\", \"$slow\"]
on_disconnect = \"end\"
concurrency = 4"
  define finish <<<"exec = [\"$dir/bin/finish\"]
interpreter = [\"/bin/sh\"]"
  define job <<<"exec = [\"$dir/bin/job\"]
interpreter = [\"/bin/sh\"]
on_disconnect = \"end\""
  define escape <<<"exec = [\"$dir/bin/escape\"]
interpreter = [\"/bin/sh\"]"
  for program in $editors; do define "e-$program" <<<"exec = [\"$(command -v "$program")\", \"$dir/open/text\"]
timeout = \"20s\""; done
  define count <<<'exec = ["/usr/bin/wc", "-c"]
stdin_limit = "1KB"'
  define cat <<<'exec = ["/usr/bin/cat"]'
  for _ in $(seq 50); do over builder "$at" help </dev/null; ! grep -q hello "$dir/out" || return 0; sleep 0.2; done
  die "the registry is not taken in: $(cat "$dir/out") $("$allod" --json commands list 2>&1)"
}

d9_a_machine_with_ssh_and_a_key_gets_exactly_its_named_commands() {
  over builder "$at" hello name=ana </dev/null || die "hello: $(cat "$dir/err")"
  [ "$(cat "$dir/out")" = "hello ana" ] || die "hello said $(cat "$dir/out")"
  recorded '"door":"gate"'
  refused 7 builder "$at" seven
  refused 2 builder "$at" hello name=ANA
  refused 2 builder "$at" hello
  over builder "$at" help </dev/null
  if grep -q others "$dir/out"; then die "help tells of another's command"; fi
  for name in hello environment exclusive flood stubborn slow finish count cat seven job escape; do
    grep -q "^  $name" "$dir/out" || die "help does not tell of $name"
  done
}

x6_no_variable_of_the_callers_reaches_a_command() {
  over builder -o "SetEnv=LC_EVIL='() { :;}; x' LD_PRELOAD=/x.so BASH_ENV=/x PYTHONPATH=/x GIT_SSH=/x IFS=x TZ=x TMPDIR=/x SSH_USER_AUTH=/x PATH=/x" \
    "$at" environment </dev/null || die "environment: $(cat "$dir/err")"
  [ "$(cut -d= -f1 "$dir/out" | sort | tr '\n' ' ')" = "A ALLOD_CALLER ALLOD_RUN LANG PATH " ] || die "the environment is $(cat "$dir/out")"
  grep -q '^ALLOD_CALLER=builder$' "$dir/out" || die "$(cat "$dir/out")"
  if grep -q '/x' "$dir/out"; then die "$(cat "$dir/out")"; fi
}

x13_the_same_request_twice_is_two_runs_each_with_its_own_line() {
  over builder "$at" environment </dev/null
  local first
  first=$(grep ALLOD_RUN "$dir/out")
  over builder "$at" environment </dev/null
  [ -n "$first" ] && [ "$first" != "$(grep ALLOD_RUN "$dir/out")" ] || die "x13: $first twice"
}

x14_of_two_hundred_at_once_one_runs_and_the_others_wait_or_are_refused() {
  local pids=() codes=() code pid before number waited=0 ran=0
  audit; before=$(calls_of exclusive)
  for number in $(seq 200); do
    timeout 120 ssh "${options[@]}" -i "$dir/builder" "$at" exclusive </dev/null >/dev/null 2>"$dir/err.$number" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do code=0; wait "$pid" || code=$?; codes+=("$code"); done
  # Its own lock says that no two ran at once; of what sshd let in, what did not run is too many.
  for code in "${codes[@]}"; do case $code in 0) ran=$((ran + 1)) ;; 6) ;; *) die "x14: ${codes[*]}" ;; esac; done
  [ "$ran" -ge 9 ] || die "x14: $ran ran: ${codes[*]}"
  # What came as far as the line has its own entries; what a key has open beyond its share is counted by the minute.
  waited=$(cat "$dir"/err.[0-9]* | grep -c ' of exclusive run, and ') || true
  rm "$dir"/err.[0-9]*
  audit
  [ "$(($(calls_of exclusive) - before))" = "$((ran + waited))" ] ||
    die "x14: $ran ran, $waited were told to wait, and the record has $(($(calls_of exclusive) - before))"
  recorded 'as many requests open as one key may'
}

x15_a_flood_is_cut_and_whoever_does_not_read_keeps_nobody_out() {
  local code=0
  over builder "$at" flood </dev/null || code=$?
  [ "$code" = 124 ] || die "x15: ended with $code: $(cat "$dir/err")"
  [ "$(stat -c %s "$dir/out")" -le 65536 ] || die "x15: $(stat -c %s "$dir/out") bytes"
  timeout 60 ssh "${options[@]}" -i "$dir/builder" "$at" flood </dev/null 2>/dev/null | { sleep 4; head -c 1 >/dev/null; } &
  local reader=$!
  over builder "$at" hello name=ana </dev/null || die "x15: nobody else is answered: $(cat "$dir/err")"
  wait "$reader" || true
}

# calls_of NAME: how many intents to run it $dir/record has.
calls_of() { grep -oE "\"entry\":\"intent\"[^{]*\{[^}]*\}[^{]*\"command\":\"command.run\"[^{]*$1" "$dir/record" | wc -l; }

# gone WORDS: no process of these words is left.
gone() {
  for _ in $(seq 100); do pgrep -f "$1" >/dev/null || return 0; sleep 0.1; done
  die "$1 lives on"
}

x16_what_ignores_its_end_is_killed_with_all_it_started() {
  local code=0
  over builder "$at" stubborn </dev/null || code=$?
  [ "$code" = 124 ] || die "x16: ended with $code: $(cat "$dir/err")"
  gone "sleep $stubborn"
}

# begun: a run of slow is under way, of the ssh client whose pid is in $client.
begun() {
  ssh "${options[@]}" -i "$dir/builder" "$at" slow </dev/null >/dev/null 2>&1 &
  client=$!
  for _ in $(seq 100); do ! pgrep -f "sleep $slow" >/dev/null || return 0; sleep 0.1; done
  die "slow does not begin"
}

x17_a_client_that_leaves_ends_its_run_or_does_not_as_is_declared() {
  local client
  begun
  kill -KILL "$client"
  wait "$client" 2>/dev/null || true
  gone "sleep $slow"
  ssh "${options[@]}" -i "$dir/builder" "$at" finish </dev/null >/dev/null 2>&1 &
  client=$!
  sleep 1
  kill "$client" 2>/dev/null || true
  for _ in $(seq 100); do [ ! -e "$dir/open/finished" ] || break; sleep 0.1; done
  [ -e "$dir/open/finished" ] || die "x17: finish was not finished"
}

x18_standard_input_is_closed_unless_declared_and_bounded() {
  head -c 1000000 /dev/zero | timeout 60 ssh "${options[@]}" -i "$dir/builder" "$at" cat >"$dir/out" 2>"$dir/err" || die "x18: $(cat "$dir/err")"
  [ ! -s "$dir/out" ] || die "x18: it read what is not its"
  printf 'four' | timeout 60 ssh "${options[@]}" -i "$dir/builder" "$at" count >"$dir/out" 2>"$dir/err" || die "x18: $(cat "$dir/err")"
  [ "$(tr -d ' \n' <"$dir/out")" = 4 ] || die "x18: $(cat "$dir/out")"
  local code=0
  head -c 1025 /dev/zero | timeout 60 ssh "${options[@]}" -i "$dir/builder" "$at" count >"$dir/out" 2>"$dir/err" || code=$?
  [ "$code" = 2 ] && [ ! -s "$dir/out" ] || die "x18: ended with $code: $(cat "$dir/err")"
}

x24_a_gate_that_is_killed_loses_no_run() {
  local client before after
  audit; before=$(grep -o '"entry":"outcome"' "$dir/record" | wc -l)
  begun
  local pid
  for pid in $(pgrep -u "$own_uid" allod); do kill -KILL "$pid"; done
  gone "sleep $slow"
  wait "$client" 2>/dev/null || true
  for _ in $(seq 50); do
    audit; after=$(grep -o '"entry":"outcome"' "$dir/record" | wc -l)
    [ "$after" -le "$before" ] || return 0
    sleep 0.1
  done
  die "x24: the run has no outcome"
}

d15_panic_stops_all_callers_and_resume_lets_them_in_again() {
  "$allod" gate panic --here >"$dir/out" || die "panic"
  refused 4 builder "$at" hello name=ana
  "$allod" gate resume --here >"$dir/out" || die "resume"
  over builder "$at" hello name=ana </dev/null || die "resume: $(cat "$dir/err")"
  "$allod" --yes gate panic >"$dir/out" || die "panic, signed"
  refused 4 builder "$at" hello name=ana
  "$allod" --yes gate resume >"$dir/out" || die "resume, signed"
  over builder "$at" hello name=ana </dev/null || die "resume: $(cat "$dir/err")"
}

d17_a_long_run_is_left_alone_and_asked_for_later() {
  local run code=0
  over builder "$at" detach job </dev/null || die "detach: $(cat "$dir/err")"
  run=$(cat "$dir/out")
  case $run in run-*) ;; *) die "detach said $run" ;; esac
  over builder "$at" watch "$run" </dev/null || code=$?
  [ "$code" = 5 ] && [ "$(tr '\n' ' ' <"$dir/out")" = "begun done " ] || die "watch: $code: $(cat "$dir/out" "$dir/err")"
  over builder "$at" runs </dev/null || die "runs: $(cat "$dir/err")"
  grep -q "^$run job exit status 5" "$dir/out" || die "runs: $(cat "$dir/out")"
  # Somebody else's run looks like one that never was.
  "$allod" gate run hello name=root >/dev/null || die "root may not"
  refused 5 builder "$at" watch run-0123456789ab
  refused 2 builder "$at" watch "$run" x
  refused 2 builder "$at" detach
  over builder "$at" runs </dev/null
  local of_root
  of_root=$("$allod" gate run runs | head -n 1 | cut -d' ' -f1)
  if grep -q "$of_root" "$dir/out"; then die "builder sees root's $of_root"; fi
  cp "$dir/err" "$dir/err.none"
  refused 5 builder "$at" watch "$of_root"
}

d1_no_shell_is_run_on_the_way() {
  local executor
  executor=$(pid_of executor)
  timeout 60 strace -f -qq -e trace=execve,execveat -s 200 -o "$dir/strace" -p "$executor" &
  local tracer=$!
  for _ in $(seq 100); do grep -q "TracerPid:.[1-9]" "/proc/$executor/status" && break; sleep 0.1; done
  over builder "$at" hello name=ana </dev/null || die "hello: $(cat "$dir/err")"
  kill -INT "$tracer"
  wait "$tracer" || true
  # The program itself by its descriptor, and for this one or the next the shim and what waits to become the program.
  grep -q 'exec.*"hello ana"' "$dir/strace" || die "d1: the program was not seen: $(cat "$dir/strace")"
  if grep -E 'exec[a-z]*\([^[]*"[^"]*(/(sh|bash|dash|busybox))"' "$dir/strace"; then die "d1: a shell was run"; fi
  if grep exec "$dir/strace" | grep -vE '\["[^"]*/allod", "(shim|launcher)"\]|execve\("/proc/self/fd/'; then die "d1: more was run"; fi
}

x21_there_is_no_terminal_no_new_privilege_and_no_editor_that_waits() {
  over builder "$at" escape </dev/null || die "escape: $(cat "$dir/err")"
  if grep -q tty "$dir/out"; then die "x21: a terminal: $(cat "$dir/out")"; fi
  grep -q 'NoNewPrivs:.1' "$dir/out" || die "x21: $(cat "$dir/out")"
  if grep -qx 0 "$dir/out"; then die "x21: a setuid program is root: $(cat "$dir/out")"; fi
  [ -n "$editors" ] || die "no editor and no pager here to try"
  for program in $editors; do
    # Whatever is typed there leads nowhere: nothing of it is read.
    local code=0
    printf '!touch %s\n:!touch %s\n' "$proof" "$proof" | timeout 60 ssh -tt "${options[@]}" -i "$dir/builder" "$at" "e-$program" >"$dir/out" 2>"$dir/err" || code=$?
    code=0
    printf '!touch %s\n:!touch %s\n' "$proof" "$proof" | timeout 60 ssh "${options[@]}" -i "$dir/builder" "$at" "e-$program" >"$dir/out" 2>"$dir/err" || code=$?
    [ "$code" != 255 ] || die "x21: $program: $(cat "$dir/err")"
    untouched
  done
}

x19_channels_of_one_connection_are_requests_each_and_bounded() {
  local pids=() code pid served=0 before
  audit; before=$(calls_of hello)
  ssh "${options[@]}" -i "$dir/builder" -o ControlMaster=yes -o "ControlPath=$dir/mux" -N -f "$at" 2>"$dir/err" || die "x19: $(cat "$dir/err")"
  for _ in $(seq 50); do
    timeout 60 ssh "${options[@]}" -o "ControlPath=$dir/mux" -o ControlMaster=no -o ProxyCommand=false "$at" hello name=ana </dev/null >/dev/null 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    code=0; wait "$pid" || code=$?
    case $code in 0) served=$((served + 1)) ;; 6 | 255) ;; *) die "x19: a channel ended with $code" ;; esac
  done
  ssh "${options[@]}" -o "ControlPath=$dir/mux" -O exit "$at" 2>/dev/null || true
  audit
  [ "$served" -ge 1 ] || die "x19: none was served"
  [ "$(($(calls_of hello) - before))" = "$served" ] || die "x19: $served served, $(($(calls_of hello) - before)) recorded"
  over builder "$at" hello name=ana </dev/null || die "x19: nobody is let in afterwards: $(cat "$dir/err")"
}

x22_a_name_that_is_not_there_and_one_that_is_not_allowed_look_the_same() {
  local code=0 none
  over builder "$at" "no-such-command" </dev/null || code=$?
  cp "$dir/err" "$dir/err.none"; none=$code
  code=0; over builder "$at" "others" </dev/null || code=$?
  [ "$code" = "$none" ] || die "x22: $code and $none"
  diff <(sed 's/others/X/g' "$dir/err") <(sed 's/no-such-command/X/g' "$dir/err.none") || die "x22: one can be told from the other"
}

x19_whatever_sshd_could_give_besides_is_refused() {
  refused 2 builder "$at"
  grep -q 'no shell here' "$dir/err" || die "a login without a command: $(cat "$dir/err")"
  refused 255 builder -tt "$at"
  grep -q 'PTY allocation request failed' "$dir/err" || die "a pty was given: $(cat "$dir/err")"
  refused 255 builder -W "$management" "$at"
  refused 255 builder -o ExitOnForwardFailure=yes -N -R "0:127.0.0.1:1" "$at"
  refused 255 builder -o ExitOnForwardFailure=yes -N -R "$dir/home/forwarded.sock:127.0.0.1:1" "$at"
  refused 255 builder -o ExitOnForwardFailure=yes -N -w any "$at"
  [ "$(over builder -s "$at" sftp </dev/null; echo $?)" != 0 ] || die "sftp was given"
  [ ! -s "$dir/out" ] || die "sftp said $(cat "$dir/out")"
  if scp -q "${options[@]/-p/-P}" -i "$dir/builder" "$at:/etc/passwd" "$dir/copy" >/dev/null 2>&1; then die "scp copied"; fi
  if scp -O -q "${options[@]/-p/-P}" -i "$dir/builder" "$at:/etc/passwd" "$dir/copy" >/dev/null 2>&1; then die "scp -O copied"; fi
  if rsync -e "ssh ${options[*]} -i $dir/builder" "$at:/etc/passwd" "$dir/copy" >/dev/null 2>&1; then die "rsync copied"; fi
  [ ! -e "$dir/copy" ] || die "a file was copied"
  recorded 'rsync --server'
  recorded 'internal-sftp'
  ssh-keygen -q -t ed25519 -N '' -C agent -f "$dir/agents"
  eval "$(ssh-agent -s)" >/dev/null
  ssh-add -q "$dir/agents"
  local code=0; over builder -A -o ForwardAgent=yes "$at" "help" </dev/null || code=$?
  kill "$SSH_AGENT_PID"
  unset SSH_AUTH_SOCK SSH_AGENT_PID
  [ "$code" = 0 ] || die "help: $(cat "$dir/err")"
  [ -z "$(find /tmp -maxdepth 2 -user "$user" -name 'agent.*' 2>/dev/null)" ] || die "an agent was forwarded"
}

# sshd's own file keeps most of them out; that the gate would too is asked with lines that sshd takes.
x23_each_key_is_its_caller_or_nobody() {
  refused 255 stranger "$at" help
  "$allod" --json keys add "$dir/other.pub" --role caller --yes >/dev/null
  over builder "$at" help </dev/null || die "help: $(cat "$dir/err")"
  grep -q '^builder may' "$dir/out" || die "builder is $(cat "$dir/out")"
  over other "$at" help </dev/null || die "help: $(cat "$dir/err")"
  grep -q '^other may' "$dir/out" || die "other is $(cat "$dir/out")"
  sshd_only() { printf 'restrict,command="/usr/local/sbin/allod-gate%s" %s\n' "$2" "$(cut -d' ' -f1,2 "$dir/$1.pub")" >>"$keys"; }
  cp "$keys" "$dir/keys.good"
  "$allod" --json keys add "$dir/owner.pub" --role operator --yes >/dev/null
  "$allod" --json keys add "$dir/elsewhere.pub" --role caller --from 192.0.2.0/24 --yes >/dev/null
  "$allod" --json keys add "$dir/expired.pub" --role caller --expires 20200101 --yes >/dev/null
  refused 255 elsewhere "$at" help
  refused 255 expired "$at" help
  cp "$dir/keys.good" "$keys"
  for key in stranger owner elsewhere expired; do sshd_only $key ""; done
  refused 3 stranger "$at" help; grep -q 'not enrolled' "$dir/err" || die "$(cat "$dir/err")"
  refused 3 owner "$at" help; grep -q 'role operator' "$dir/err" || die "$(cat "$dir/err")"
  refused 3 elsewhere "$at" help; grep -q 'may not call from there' "$dir/err" || die "$(cat "$dir/err")"
  refused 3 expired "$at" help; grep -q 'has expired' "$dir/err" || die "$(cat "$dir/err")"
  recorded "$(ssh-keygen -lf "$dir/stranger.pub" | cut -d' ' -f2)"
  # A certificate of a CA that sshd takes: the block for this user takes none, and the gate would not either.
  ssh-keygen -q -s "$dir/authority" -I late -n "$user" "$dir/late.pub"
  refused 255 late -o "CertificateFile=$dir/late-cert.pub" "$at" help
  printf 'cert-authority,restrict %s\n' "$(cut -d' ' -f1,2 "$dir/authority.pub")" >>"$keys"
  refused 3 late -o "CertificateFile=$dir/late-cert.pub" "$at" help
  grep -q 'a certificate logged in' "$dir/err" || die "$(cat "$dir/err")"
  cp "$dir/keys.good" "$keys"
  # Without ForceCommand the key's own line speaks: it may not name another caller.
  sed -i '/ForceCommand/d' /etc/ssh/sshd_config.d/50-allod-gate.conf
  kill -HUP "$server"
  for _ in $(seq 100); do over builder "$at" help </dev/null && break; sleep 0.1; done
  grep -q '^builder may' "$dir/out" || die "by its line builder is $(cat "$dir/out" "$dir/err")"
  sed "s/--caller builder/--caller other/" "$dir/keys.good" >"$keys"
  refused 3 builder "$at" help; grep -q 'another caller' "$dir/err" || die "$(cat "$dir/err")"
  cp "$dir/keys.good" "$keys"
  gate install >/dev/null || die "install again"
  kill -HUP "$server"
  "$allod" --json keys revoke other --yes >/dev/null
  refused 255 other "$at" help
  sshd_only other ""
  refused 3 other "$at" help; grep -q 'is revoked' "$dir/err" || die "$(cat "$dir/err")"
}

root_on_the_machine_is_somebody_without_a_login_and_nobody_else_is() {
  "$allod" gate run help >"$dir/out" || die "root has no help: $(cat "$dir/out")"
  grep -q '^root on this machine may' "$dir/out" || die "root is $(cat "$dir/out")"
  if setpriv --reuid $((own_uid + 1)) --clear-groups "$allod" gate run help >"$dir/out" 2>&1; then die "another user has help"; fi
  if setpriv --reuid $own_uid --clear-groups "$allod" gate run help >"$dir/out" 2>&1; then die "the gate's user is somebody without a login"; fi
}

# It is counted by the minute: so it comes last, and waits.
what_sshd_alone_has_seen_is_in_the_record() {
    local reason
    for reason in 'request never came to the gate' 'this key may not log in' 'asked for no command' 'ssh: forwarding'; do
      for _ in $(seq 150); do audit; grep -q "$reason" "$dir/record" && break; sleep 1; done
      grep -q "$reason" "$dir/record" || die "sshd's own refusals: $reason"
    done
}

declare_commands
for test in $(declare -F | sed -n 's/^declare -f \(x[0-9].*\|d1_.*\|d9_.*\|d15_.*\|d17_.*\|root_on.*\)$/\1/p' | sort -V) what_sshd_alone_has_seen_is_in_the_record; do
  "$test"
  say "$test"
done
"$allod" audit verify >/dev/null || die "the record does not verify"
