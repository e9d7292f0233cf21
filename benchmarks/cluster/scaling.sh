# The paper's problems on 1, 4, 16, 64 and 100 ranks, or RANKS. Sourced by slurm.sh and pbs.sh, which
# set `launch`, the command that starts a program on so many ranks of so many threads each.
set -eu
export OMP_NUM_THREADS=${THREADS:-1} OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=${THREADS:-1}
out=${OUT:-results/cluster}
mkdir -p "$out"
for ranks in ${RANKS:-1 4 16 64 100}; do
    for physics in transpose poisson acoustic elastic; do
        for mode in strong weak; do
            launch "$ranks" "${PYTHON:-.venv/bin/python}" -m mpi4py benchmarks/scaling.py \
                --physics "$physics" --mode "$mode" \
                --json "$out/scaling-$physics-$mode-${ranks}x${THREADS:-1}.json"
        done
    done
done
echo "Figures and tables: python benchmarks/report.py $out --out $out"
