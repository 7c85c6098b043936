#!/usr/bin/env bash
# Checks the worked bytes of docs/protocol.md with ssh-keygen: each block that is called after a namespace is signed by
# an example key, verified against the signature block after it, and must come out byte for byte.
# shellcheck disable=SC2015,SC2016  # the backticks are the page's own; `a && b || die`: die ends, whichever of a and b was false
set -eu

page=$(dirname "$0")/../../docs/protocol.md
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# block NAME N: the content of the Nth fenced block of that name.
block() {
  awk -v name="$1" -v wanted="$2" '
    /^```/ { if (inside) { inside = 0 } else { inside = 1; hit = ($0 == "```" name) && ++seen == wanted }; next }
    inside && hit' "$page"
}

for key in private-key fresh-private-key; do
  block "$key" 1 >"$dir/$key"
  chmod 600 "$dir/$key"
done
printf 'private-key %s\nfresh-private-key %s\n' "$(block public-key 1)" "$(block fresh-public-key 1)" >"$dir/allowed"
[ "$(ssh-keygen -lf "$dir/private-key" | cut -d' ' -f2)" = "$(block allod-management-v1 1 | sed -n 2p)" ] \
  || { echo "the example key is not the audience of the example request" >&2; exit 1; }

checked=0
# Signature blocks follow their texts in the order of the page. NAMESPACE:N:KEY
for one in allod-management-v1:1:private-key allod-reply-v1:1:private-key allod-frame-v1:1:private-key \
  allod-frame-v1:2:private-key allod-record-head-v1:1:private-key allod-delegation-v1:1:private-key \
  allod-management-v1:2:fresh-private-key allod-succession-v1:1:private-key; do
  namespace=${one%%:*}
  key=${one##*:}
  number=${one#*:}
  checked=$((checked + 1))
  block "$namespace" "${number%:*}" >"$dir/text"
  [ -s "$dir/text" ] || { echo "$one: no such block" >&2; exit 1; }
  block signature "$checked" >"$dir/signature"
  { echo '-----BEGIN SSH SIGNATURE-----'; fold -w 70 "$dir/signature"; echo '-----END SSH SIGNATURE-----'; } >"$dir/sig"
  ssh-keygen -q -Y verify -f "$dir/allowed" -I "$key" -n "$namespace" -s "$dir/sig" <"$dir/text" >"$dir/log" 2>&1 \
    || { echo "$one: the signature does not hold: $(cat "$dir/log")" >&2; exit 1; }
  again=$(ssh-keygen -q -Y sign -f "$dir/$key" -n "$namespace" <"$dir/text" 2>/dev/null | sed '/^-----/d' | tr -d '\n')
  [ "$again" = "$(cat "$dir/signature")" ] || { echo "$one: ssh-keygen signs it otherwise" >&2; exit 1; }
done

# The second frame names the first by the digest of its signed lines.
[ "$(block allod-frame-v1 1 | sha256sum | cut -d' ' -f1)" = "$(block allod-frame-v1 2 | sed -n 4p)" ] \
  || { echo "the frames are not chained" >&2; exit 1; }
# The header of a delegation is its terms and their signature, and the request under it names it and the fresh key.
delegation=$(block allod-delegation-v1 1 | base64 -w0).$(block signature 6)
[ "$delegation" = "$(block delegation 1)" ] || { echo "the delegation's header is another" >&2; exit 1; }
[ "$(printf %s "$delegation" | sha256sum | cut -d' ' -f1)" = "$(block allod-management-v1 2 | sed -n 9p)" ] \
  || { echo "the ninth line is not the digest of the delegation" >&2; exit 1; }
[ "$(block fresh-public-key 1)" = "$(block allod-delegation-v1 1 | sed -n 2p)" ] \
  || { echo "the delegation is to another key" >&2; exit 1; }
# A link says what its lines say.
link=$(block allod-succession-v1 1 | { read -r _; read -r old; read -r new; read -r at
  printf '{"old":"%s","new":"%s","at":%s,"signature":"%s"}' "$old" "$new" "$at" "$(block signature 8)"; })
[ "$link" = "$(block succession 1)" ] || { echo "the link of the succession is another" >&2; exit 1; }
# The bodies quoted in the text have the digests that are signed.
for body in '"v":1,"id":"0123456789abcdef","command":"server.status","params":{}}' '"code":"not_allowed"' '"v":2,'; do
  quoted=$(grep -oE '`\{"v":[12],[^`]*`' "$page" | grep -F "$body" | head -n 1 | tr -d '`')
  grep -qxF "$(printf %s "$quoted" | sha256sum | cut -d' ' -f1)" "$page" || { echo "no line has the digest of $quoted" >&2; exit 1; }
done
echo "protocol-examples: $checked signatures hold"
