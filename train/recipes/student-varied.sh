#!/usr/bin/env bash
# Train student-160 and then student-varied, from the photos to the model file (neither is bundled, see docs/training.md):
#   bash train/recipes/student-varied.sh SHARED SNAPSHOTS OUT     (in a clone; SNAPSHOTS/OWNER+NAME/repo)
# The same command continues an interrupted one.
set -euo pipefail
shared=$1 snapshots=$2 out=$3
before=8867f62:petinfer/models/pets-int8.onnx # the bundled model
mkdir -p "$out/start"

cat > "$out/inputs.sha256" <<SUMS
efd54fb8fde49625494a9d6645b54145e5cc2cd94c6f7096883fac013b657ed9  $shared/pets/more.tsv
41ef88f766f8798cf02a1ed6f92a4599b0b61e052f827443d1ffb7786c12c836  $shared/pets/others.tsv
cc4a82b5eddd98f81f0ad587b920d3efa79e46ca68cdf55ae32f70240e140d10  $shared/weights/projections.safetensors
45e2a4b494b30eac2b97090f9331751cfebbc3b30cfd5453b0f0480e10508a72  $out/start/before.onnx
9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d  $(python -c 'from train.efficientnet_lite import weights_file as f; print(f())')
SUMS
git show "$before" > "$out/start/before.onnx"
sha256sum --check "$out/inputs.sha256"
images=$(cd "$shared/pets/images" && sha256sum -- * | cut -c-64 | sort | sha256sum | cut -c-64)
test "$images" = d4476b229d216876b86087f406833434f7a1d0003a6071e9287eea26bb6fdede || { echo "$shared/pets/images: other photos"; exit 1; }

# A table for each folder of photos. The temperature is fitted on a part of 4Geeks that is left out.
more=$shared/pets/more.tsv others=$shared/pets/others.tsv
awk -F'\t' 'NR == 1 || ($2 ~ /^4Geeks/ && NR % 14 == 0)' "$more" > "$out/left-out.tsv"
awk -F'\t' 'NR == 1 || $2 ~ /^MaxAndolini/' "$others" > "$out/tiles.tsv"
awk -F'\t' 'NR == 1 || ($2 !~ /^MaxAndolini/ && $5 !~ /^(lion|horse)$/)' "$others" > "$out/animals.tsv"
awk -F'\t' 'NR == 1 || !($2 ~ /^sumit-158/ || ($2 ~ /^4Geeks/ && (NR % 14 == 0 || NR % 3)) || ($2 ~ /^MaxAndolini/ && NR % 5))' \
    "$more" > "$out/more.tsv"
for folder in more left-out tiles animals; do
    python "$shared/pets/lay.py" "$snapshots" "$out/$folder" "$out/$folder.tsv"
done

if [ ! -e "$out/start/model.safetensors" ]; then
    python -m export.weights "$out/start/before.onnx" --photos "$shared/pets/images" --out "$out/start/model.safetensors"
fi
cp "$shared/weights/projections.safetensors" "$out/start"

# train RECIPE, into OUT/RECIPE; the others are its options
train() {
    local run=$out/$1
    if [ ! -e "$run/recipe.json" ]; then
        python -m train --recipe "train/recipes/$1.json" --data "$shared/pets/images" --data "$out/more" --sources "$more" \
            --unfamiliar "$out/tiles" --out "$run" "${@:2}"
    elif ! grep -q '"completed": true' "$run/recipe.json"; then
        python -m train --resume --out "$run"
    fi
}

train student-160 --weights "$out/start/model.safetensors" --hold-out-source BiakSang/petstagram \
    --hold-out-source yayapple/cool-website --hold-out-source maxogden/cats

# Of the largest sources, a half.
{
    awk -F'\t' 'NR > 1 && (($2 ~ /^4Geeks/ && NR % 6 != 3) || ($2 ~ /^MaxAndolini/ && NR % 10)) {print $1}' "$more"
    ls "$shared/pets/images" | awk 'NR % 2'
} > "$out/without.txt"
train student-varied --weights "$out/student-160/model.safetensors" --without "$out/without.txt" \
    --hold-out-source BiakSang/petstagram

run=$out/student-varied
python -m train calibrate "$run" --photos "$out/left-out"
python -m train evaluate "$run" --test "$shared/pets/test"
python -m export "$run" --out "$run/onnx" --photos "$shared/pets/test" --calibrate "$shared/pets/images" \
    --unfamiliar "$out/tiles" --others "$out/animals"
