#!/usr/bin/env bash
# Checks the worked bytes of docs/protocol.md with ssh-keygen: each block that is called after a namespace is signed by
# the example key, verified against the signature block after it, and must come out byte for byte.
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

block private-key 1 >"$dir/key"
chmod 600 "$dir/key"
printf 'example %s\n' "$(block public-key 1)" >"$dir/allowed"
[ "$(ssh-keygen -lf "$dir/key" | cut -d' ' -f2)" = "$(block allod-management-v1 1 | sed -n 2p)" ] \
  || { echo "the example key is not the audience of the example request" >&2; exit 1; }

checked=0
# Signature blocks follow their texts in the order of the page.
for one in allod-management-v1:1 allod-reply-v1:1 allod-frame-v1:1 allod-frame-v1:2 allod-record-head-v1:1; do
  namespace=${one%:*}
  checked=$((checked + 1))
  block "$namespace" "${one#*:}" >"$dir/text"
  [ -s "$dir/text" ] || { echo "$one: no such block" >&2; exit 1; }
  block signature "$checked" >"$dir/signature"
  { echo '-----BEGIN SSH SIGNATURE-----'; fold -w 70 "$dir/signature"; echo '-----END SSH SIGNATURE-----'; } >"$dir/sig"
  ssh-keygen -q -Y verify -f "$dir/allowed" -I example -n "$namespace" -s "$dir/sig" <"$dir/text" >"$dir/log" 2>&1 \
    || { echo "$one: the signature does not hold: $(cat "$dir/log")" >&2; exit 1; }
  again=$(ssh-keygen -q -Y sign -f "$dir/key" -n "$namespace" <"$dir/text" 2>/dev/null | sed '/^-----/d' | tr -d '\n')
  [ "$again" = "$(cat "$dir/signature")" ] || { echo "$one: ssh-keygen signs it otherwise" >&2; exit 1; }
done

# The second frame names the first by the digest of its signed lines.
[ "$(block allod-frame-v1 1 | sha256sum | cut -d' ' -f1)" = "$(block allod-frame-v1 2 | sed -n 4p)" ] \
  || { echo "the frames are not chained" >&2; exit 1; }
# The bodies quoted in the text have the digests that are signed.
for body in '"command":"server.status","params":{}}' '"code":"not_allowed"'; do
  quoted=$(grep -oE '`\{"v":1,[^`]*`' "$page" | grep -F "$body" | head -n 1 | tr -d '`')
  grep -qxF "$(printf %s "$quoted" | sha256sum | cut -d' ' -f1)" "$page" || { echo "no line has the digest of $quoted" >&2; exit 1; }
done
echo "protocol-examples: $checked signatures hold"
