#!/usr/bin/env bash
# The same answers on other processors: `petinfer verify` and `classify` from the wheel, as a Raspberry Pi 4 and 5, a newer
# arm64 and a PC without AVX512 or VNNI would compute them (QEMU), and on this machine. Takes four minutes.
#
#   apt-get install qemu-user-static debootstrap
#   PYTHON=.venv/bin/python tests/arm64/run.sh [WHEEL]
#
# WHEEL   petinfer's wheel; without it, one is built from this checkout
# PYTHON  a Python for x86-64 with pip and petinfer's dependencies  [python3]
# MODEL   another model file than the bundled one
# ROOT    folder that keeps Debian for arm64 for the next run       [~/.cache/petinfer/bookworm-arm64]
# OUT     folder for the answers, as JSON, and what went to stderr   [a new one in /tmp]
#
# Exits with 1 when one processor does not verify, with 0 and the reason where this cannot run at all.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
root=$(realpath -m "${ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/petinfer/bookworm-arm64}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skip() { echo "skipped: $*"; exit 0; }

[ "$(uname -sm)" = "Linux x86_64" ] || skip "this is $(uname -sm), not Linux on x86-64"
for command in qemu-aarch64-static qemu-x86_64-static; do
    command -v $command > /dev/null || skip "no $command here (apt-get install qemu-user-static)"
done
# behind pyenv's python3, a shell script, is the program that QEMU can run
python=$("${PYTHON:-python3}" -c 'import sys, pip, numpy, PIL, onnxruntime, click; print(sys.executable)' 2> /dev/null) ||
    skip "${PYTHON:-python3} lacks pip or petinfer's dependencies (set PYTHON)"

# Debian's packages are unpacked, not configured: Python runs without that, and so nothing here needs chroot or binfmt_misc.
make_root() {
    for command in debootstrap dpkg-deb wget; do
        command -v $command > /dev/null || skip "no $command here, and no Debian for arm64 in $root"
    done
    [ "$(id -u)" = 0 ] || skip "debootstrap must be root (run once as root with ROOT=$root, then as you like)"
    local mirror package
    mirror=$({ apt-get indextargets --format "\$(SITE)" 2> /dev/null || true; } |
        awk '/\/debian\/?$/ { site = $0 } END { print site ? site : "http://deb.debian.org/debian" }')
    wget -q --spider --tries=2 --timeout=20 "$mirror/dists/bookworm/Release" ||
        skip "Debian's mirror cannot be reached, and no Debian for arm64 is in $root"
    echo "unpacking Debian bookworm for arm64 into $root"
    rm -rf "$root.part"
    mkdir -p "$root.part"
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3 bookworm "$root.part" "$mirror" \
        > "$work/debootstrap.log" || { tail "$work/debootstrap.log" >&2; exit 1; }
    for package in "$root.part"/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root.part"
        rm "$package"
    done
    mv "$root.part" "$root"
}

# onnxruntime reads here which core it runs on. It dies on the x86-64 /proc/cpuinfo that QEMU would show it, and on one
# that has fewer cores than /sys.
pretend() { # IMPLEMENTER PART
    local core
    for core in $(seq 0 $(($(nproc --all) - 1))); do
        printf '%s\n' "processor : $core" "Features : fp asimd" "CPU implementer : $1" "CPU architecture : 8" \
            "CPU variant : 0x0" "CPU part : $2" "CPU revision : 1" ""
    done > "$work/root/proc/cpuinfo"
}

# Verify and classify as one processor, whose Python COMMAND starts.
prove() { # NAME COMMAND...
    local name=$1 status=0 classified=0 started=$SECONDS
    shift
    echo "$name"
    "$@" -c "$main" verify "${model[@]}" --json > "$out/$name.verify.json" 2> "$out/$name.log" || status=$?
    "$@" -c "$main" classify "${model[@]}" --json chelsea.jpg > "$out/$name.classify.json" 2>> "$out/$name.log" || classified=$?
    printf '%s\t%s\t%s\t%s\n' "$name" $status $classified $((SECONDS - started)) >> "$out/runs.tsv"
}

[ -e "$root" ] || make_root
out=$(realpath -m "${OUT:-$(mktemp -d -t petinfer-arm64.XXXX)}")
mkdir -p "$out"
rm -f "$out/runs.tsv"
wheel=${1:-}
if [ -z "$wheel" ]; then
    "$python" -m pip wheel -q --no-deps -w "$work/dist" "$here"
    wheel=$(echo "$work"/dist/*.whl)
fi
"$python" -m zipfile -e "$wheel" "$work/x86-64"
# pip is given what bookworm's glibc 2.36 can load
platforms=()
for glibc in 2_35 2_34 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_aarch64"); done
"$python" -m pip install -q --target "$work/arm64" --only-binary=:all: "${platforms[@]}" --platform manylinux2014_aarch64 \
    --python-version 3.11 --implementation cp "$wheel"

mkdir -p "$work/root"
ln -s "$root"/* "$work/root" # all of it but /proc, so that what is kept stays as it was unpacked
rm "$work/root/proc"
mkdir "$work/root/proc"

main='from petinfer.cli import main; main()'
model=()
[ -z "${MODEL:-}" ] || model=(--model "$(realpath "$MODEL")")
cp "$here/docs/chelsea.jpg" "$work"
cd "$work"
export HOME=$work ORT_DISABLE_TELEMETRY=1 PYTHONPATH

PYTHONPATH=$work/x86-64
prove native "$python"
prove haswell qemu-x86_64-static -cpu Haswell "$python"
PYTHONPATH=$work/arm64
arm64=(qemu-aarch64-static -L "$work/root")
pretend 0x41 0xd08
prove cortex-a72 "${arm64[@]}" -cpu cortex-a72 "$work/root/usr/bin/python3"
pretend 0x41 0xd0b
prove cortex-a76 "${arm64[@]}" -cpu cortex-a76 "$work/root/usr/bin/python3"
pretend 0x00 0x051
prove max "${arm64[@]}" -cpu max "$work/root/usr/bin/python3"

"$python" - "$out" << 'PY'
import json
import pathlib
import sys

out = pathlib.Path(sys.argv[1])
print(f"\n{'processor':12}{'pixels equal':>14}{'|Δp| file':>11}{'|Δp| Learner':>14}{'flips':>7}{'s':>6}  photo")
failed = False
for line in (out / "runs.tsv").read_text().splitlines():
    name, verify, classify, seconds = line.split("\t")
    failed = failed or verify != "0" or classify != "0"
    try:
        found = json.loads((out / f"{name}.verify.json").read_text())
        photo = json.loads((out / f"{name}.classify.json").read_text())[0]
    except ValueError:  # it died before it could answer
        print(f"{name:12}  FAILED: verify exits with {verify}, classify with {classify}; see {out / name}.log")
        continue
    checks = found["checks"]
    pixels = f"{sum(check['pixels_equal'] for check in checks)} of {len(checks)}"
    moved, learner = (max(check[key] for check in checks) for key in ("moved", "from_learner"))
    flips = sum(check["flipped"] for check in checks)
    answer = f"{photo.get('label')} {photo.get('probability', 0):.7f}" + ("" if found["passed"] else "  FAILED")
    print(f"{name:12}{pixels:>14}{moved:11.1e}{learner:14.1e}{flips:7}{seconds:>6}  {answer}")
    for failure in found["failures"]:
        print(f"    {failure}")
print(f"\nthe answers: {out}")
sys.exit(failed)
PY
