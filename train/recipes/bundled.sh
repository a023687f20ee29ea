#!/usr/bin/env bash
# Train the bundled ResNet-34 from the weights of student-192, from the photos to the model file:
#   bash train/recipes/bundled.sh SHARED SNAPSHOTS OUT     (in a clone; SNAPSHOTS/OWNER+NAME/repo)
# The same command continues an interrupted one.
set -euo pipefail
shared=$1 snapshots=$2 out=$3
before=8867f62:petinfer/models/pets-int8.onnx # student-192, whose run is lost
mkdir -p "$out/start"

cat > "$out/inputs.sha256" <<SUMS
efd54fb8fde49625494a9d6645b54145e5cc2cd94c6f7096883fac013b657ed9  $shared/pets/more.tsv
41ef88f766f8798cf02a1ed6f92a4599b0b61e052f827443d1ffb7786c12c836  $shared/pets/others.tsv
45e2a4b494b30eac2b97090f9331751cfebbc3b30cfd5453b0f0480e10508a72  $out/start/before.onnx
SUMS
git show "$before" > "$out/start/before.onnx"
sha256sum --check "$out/inputs.sha256"
images=$(cd "$shared/pets/images" && sha256sum -- * | cut -c-64 | sort | sha256sum | cut -c-64)
test "$images" = d4476b229d216876b86087f406833434f7a1d0003a6071e9287eea26bb6fdede || { echo "$shared/pets/images: other photos"; exit 1; }

# A table for each folder of photos. The temperature is fitted on equally many of 4Geeks, which are left out, and of petstagram.
more=$shared/pets/more.tsv others=$shared/pets/others.tsv
awk -F'\t' 'NR == 1 || ($2 ~ /^4Geeks/ && NR % 14 == 0)' "$more" > "$out/left-out.tsv"
awk -F'\t' 'NR == 1 || !($2 ~ /^4Geeks/ && NR % 14 == 0)' "$more" > "$out/more.tsv"
awk -F'\t' 'NR == 1 || $2 ~ /^MaxAndolini/' "$others" > "$out/tiles.tsv"
awk -F'\t' 'NR == 1 || ($2 !~ /^MaxAndolini/ && $5 !~ /^(lion|horse)$/)' "$others" > "$out/animals.tsv"
for folder in more left-out tiles animals; do
    python "$shared/pets/lay.py" "$snapshots" "$out/$folder" "$out/$folder.tsv"
done

if [ ! -e "$out/start/model.safetensors" ]; then
    python -m export.weights "$out/start/before.onnx" --photos "$shared/pets/images" --out "$out/start/model.safetensors"
fi
run=$out/student-head
if [ ! -e "$run/recipe.json" ]; then
    python -m train --recipe train/recipes/student-head.json --data "$shared/pets/images" --data "$out/more" --sources "$more" \
        --per-source 1500 --hold-out-source BiakSang/petstagram --weights "$out/start/model.safetensors" --out "$run"
elif ! grep -q '"completed": true' "$run/recipe.json"; then
    python -m train --resume --out "$run"
fi
mkdir -p "$out/calibration"
ls "$out/left-out" | awk 'NR * 397 % 1028 < 397' | while read -r name; do ln -f "$out/left-out/$name" "$out/calibration"; done
awk -F'\t' '$2 == "BiakSang/petstagram" {print $1}' "$more" | while read -r name; do ln -f "$out/more/$name" "$out/calibration"; done
python -m train calibrate "$run" --photos "$out/calibration"
python -m train evaluate "$run" --test "$shared/pets/test"
python -m export "$run" --out "$run/onnx" --photos "$shared/pets/test" \
    --unfamiliar "$out/tiles" --others "$out/animals"
# Familiarity again, on more photos than export takes, and on photos of pets alone.
python -m export.refit "$run/onnx/model-int8.onnx" --out "$out/pets-int8.onnx" --calibrate "$shared/pets/images" \
    --photos "$shared/pets/test" --unfamiliar "$out/tiles" --others "$out/animals"
