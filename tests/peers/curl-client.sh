#!/usr/bin/env bash
# A whole client of the signed door made of curl and ssh-keygen: docs/protocol.md, step by step.
#
#   curl-client.sh BASE_URL KEY [WHAT]     BASE_URL: http://100.64.0.7:9844     KEY: a private key, or the public half of
#                                          one that ssh-agent holds
#   WHAT: status          ask `server.status`, verify the reply (the default)
#         replay          the same signed request twice
#         other-path      a signature over another path
#         other-body      a signature over another body
#         other-audience  a signature for another server
#         stale-epoch     a signature for another life of the agent
#         old-clock       a signature made two minutes ago
#         unsigned        no signature
#         refusals        all of the above but the first, one after another
#         future-replay   a request dated 55 s ahead, and the same again after 62 s: still fresh, and still known
#
# Ends with 0 when the server did what the protocol says: answered `status`, refused the rest with the right code.
# ALLOD_DELEGATION: the value of x-allod-delegation that KEY, a fresh one, signs under.
# ALLOD_IDENTITY: the server's pinned fingerprint (SHA256:…); without it the one that `hello` tells is believed.
# shellcheck disable=SC2015  # `a && b || die`: die ends, whichever of a and b was false
set -eu

usage() { sed -n '3,18s/^# \{0,1\}//p' "$0" >&2; exit 64; }
[ $# -ge 2 ] && [ $# -le 3 ] || usage
base=${1%/} key=$2 what=${3:-status}
# A delegation is what version 2 brought.
delegation=${ALLOD_DELEGATION-} version=1
[ -z "$delegation" ] || version=2

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
die() { echo "curl-client: $*" >&2; exit 1; }

sha256() { sha256sum | cut -d' ' -f1; }
nonce() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
milliseconds() { date +%s%3N; }
# header NAME: its value in the newest reply.
header() { tr -d '\r' <"$dir/head" | sed -n "s/^$1: *//Ip" | tail -n 1; }
# code: the fault's code in the newest reply; empty where there is none.
code() { grep -o '"fault":{"code":"[a-z_]*"' "$dir/body" | head -n 1 | sed 's/.*"code":"//; s/"$//'; }

# send PATH BODY HEADER…: leaves status, $dir/head and $dir/body.
send() {
  local path=$1 body=$2 arguments=() one
  shift 2
  for one in "$@"; do arguments+=(-H "$one"); done
  status=$(printf %s "$body" | curl -sS --max-time 30 --noproxy '*' -D "$dir/head" -o "$dir/body" -w '%{http_code}' \
    -X POST -H 'content-type: application/json' ${arguments[@]+"${arguments[@]}"} --data-binary @- "$base$path") \
    || die "no answer from $base"
}

# hello: fills identity and epoch. Nothing signs it: the identity is compared with the pinned one, the epoch is only
# an ingredient of what is signed next.
hello() {
  send /rpc "{\"v\":1,\"id\":\"$(nonce)\",\"command\":\"hello\",\"params\":{}}"
  [ "$status" = 200 ] || die "hello was answered with $status: $(cat "$dir/body")"
  identity=$(grep -oE '"identity":"SHA256:[A-Za-z0-9+/]{43}"' "$dir/body" | head -n 1 | cut -d'"' -f4)
  epoch=$(grep -oE '"epoch":"[0-9a-f]{32}"' "$dir/body" | head -n 1 | cut -d'"' -f4)
  [ -n "$identity" ] && [ -n "$epoch" ] || die "hello has no identity or no epoch: $(cat "$dir/body")"
  if [ -n "${ALLOD_IDENTITY-}" ]; then
    [ "$identity" = "$ALLOD_IDENTITY" ] || die "this is $identity, not the pinned $ALLOD_IDENTITY"
  else
    echo "curl-client: believing $identity (ALLOD_IDENTITY is not set)" >&2
  fi
}

# sign AUDIENCE EPOCH PATH TIMESTAMP BODY: fills headers, an array, and request_nonce.
sign() {
  local audience=$1 signed_epoch=$2 path=$3 timestamp=$4 body=$5 digest signature
  request_nonce=$(nonce)
  digest=$(printf %s "$body" | sha256)
  printf 'allod-management-v1\n%s\n%s\nPOST\n%s\n%s\n%s\n%s\n' \
    "$audience" "$signed_epoch" "$path" "$timestamp" "$request_nonce" "$digest" >"$dir/request"
  [ -z "$delegation" ] || printf %s "$delegation" | sha256 >>"$dir/request"
  ssh-keygen -q -Y sign -f "$key" -n allod-management-v1 <"$dir/request" >"$dir/request.sig" 2>"$dir/log" \
    || die "ssh-keygen did not sign: $(cat "$dir/log")"
  # Armour is two lines around the base64 that the header wants on one.
  signature=$(sed '/^-----/d' "$dir/request.sig" | tr -d '\n')
  headers=(
    "x-allod-key-fingerprint: $fingerprint"
    "x-allod-timestamp: $timestamp"
    "x-allod-nonce: $request_nonce"
    "x-allod-epoch: $signed_epoch"
    "x-allod-content-sha256: $digest"
    "x-allod-signature: $signature"
  )
  [ -z "$delegation" ] || headers+=("x-allod-delegation: $delegation")
}

# verify_reply NONCE: the newest reply was made by the server that is pinned, for this request.
verify_reply() {
  local signature length key_blob record seq hash
  signature=$(header x-allod-reply-signature)
  record=$(header x-allod-record)
  seq=$(printf %s "$record" | grep -oE '"seq":[0-9]+' | cut -d: -f2)
  hash=$(printf %s "$record" | grep -oE '"hash":"[0-9a-f]{64}"' | cut -d'"' -f4)
  [ -n "$signature" ] && [ -n "$seq" ] && [ -n "$hash" ] || die "the reply ($status) is not signed"
  # An SSHSIG begins with "SSHSIG", a version of 4 bytes, then the public key as a string: 4 bytes of length, the key.
  printf %s "$signature" | base64 -d >"$dir/sshsig" || die "the reply's signature is not base64"
  length=$(od -An -tu1 -j10 -N4 "$dir/sshsig" | awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 }')
  [ "${length:-0}" -gt 0 ] && [ "$length" -lt 8192 ] || die "the reply's signature is no SSHSIG"
  key_blob=$(tail -c +15 "$dir/sshsig" | head -c "$length" | base64 -w0)
  # Identities of servers are ed25519; the fingerprint check below would catch any other kind.
  printf 'ssh-ed25519 %s\n' "$key_blob" >"$dir/identity.pub"
  [ "$(ssh-keygen -lf "$dir/identity.pub" 2>/dev/null | awk '{ print $2 }')" = "$identity" ] \
    || die "the reply is signed by another identity than $identity"
  printf 'server namespaces="allod-reply-v1" ssh-ed25519 %s\n' "$key_blob" >"$dir/allowed"
  { echo '-----BEGIN SSH SIGNATURE-----'; printf '%s\n' "$signature" | fold -w 70; echo '-----END SSH SIGNATURE-----'; } \
    >"$dir/reply.sig"
  printf 'allod-reply-v1\n%s\n%s\n%s\n%s\n%s\n%s\n' \
    "$1" "$status" "$(sha256 <"$dir/body")" "$seq" "$hash" "$(header x-allod-epoch)" >"$dir/reply"
  ssh-keygen -q -Y verify -f "$dir/allowed" -I server -n allod-reply-v1 -s "$dir/reply.sig" <"$dir/reply" >"$dir/log" 2>&1 \
    || die "the reply's signature does not hold: $(cat "$dir/log")"
}

# expect NAME STATUS CODE: the newest reply is this refusal.
expect() {
  [ "$status" = "$2" ] && [ "$(code)" = "$3" ] \
    || die "$1: wanted $2 $3, got $status $(code): $(head -c 400 "$dir/body")"
  # Who has proved nothing may get an unsigned refusal; a signature that is there must hold all the same.
  [ "$4" = unproven ] && [ -z "$(header x-allod-reply-signature)" ] || verify_reply "$request_nonce"
  echo "$1: refused as $3"
}

request_body() { printf '{"v":%s,"id":"%s","command":"server.status","params":{}}' "$version" "$(nonce)"; }

ask() {
  local body now other
  body=$(request_body)
  now=$(milliseconds)
  case $1 in
    status)
      sign "$identity" "$epoch" /rpc "$now" "$body"
      send /rpc "$body" "${headers[@]}"
      verify_reply "$request_nonce"
      [ "$status" = 200 ] || die "refused with $status: $(cat "$dir/body")"
      cat "$dir/body"; echo ;;
    replay)
      sign "$identity" "$epoch" /rpc "$now" "$body"
      send /rpc "$body" "${headers[@]}"
      [ "$status" = 200 ] || die "replay: the first was refused with $status: $(cat "$dir/body")"
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 replay proven ;;
    future-replay)
      sign "$identity" "$epoch" /rpc "$((now + 55000))" "$body"
      send /rpc "$body" "${headers[@]}"
      [ "$status" = 200 ] || die "future-replay: the first was refused with $status: $(cat "$dir/body")"
      sleep 62
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 replay proven ;;
    other-path)
      sign "$identity" "$epoch" /chunks "$now" "$body"
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 refused unproven ;;
    other-body)
      sign "$identity" "$epoch" /rpc "$now" "$body"
      other=$(request_body)
      # The head says the digest of what is sent, so only the signature can tell.
      headers[4]="x-allod-content-sha256: $(printf %s "$other" | sha256)"
      send /rpc "$other" "${headers[@]}"
      expect "$1" 401 refused unproven ;;
    other-audience)
      sign "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" "$epoch" /rpc "$now" "$body"
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 refused unproven ;;
    stale-epoch)
      sign "$identity" 00000000000000000000000000000000 /rpc "$now" "$body"
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 stale_epoch proven
      [ "$(header x-allod-epoch)" = "$epoch" ] || die "$1: the reply tells epoch $(header x-allod-epoch), hello $epoch" ;;
    old-clock)
      sign "$identity" "$epoch" /rpc "$((now - 120000))" "$body"
      send /rpc "$body" "${headers[@]}"
      expect "$1" 401 clock proven ;;
    unsigned)
      request_nonce=
      send /rpc "$body"
      expect "$1" 401 refused unproven ;;
    *) usage ;;
  esac
}

fingerprint=$(ssh-keygen -lf "$key" 2>/dev/null | awk '{ print $2 }')
[ -n "$fingerprint" ] || die "$key is no key that ssh-keygen reads"
hello
if [ "$what" = refusals ]; then
  for one in unsigned other-path other-body other-audience stale-epoch old-clock replay; do ask "$one"; done
else
  ask "$what"
fi
