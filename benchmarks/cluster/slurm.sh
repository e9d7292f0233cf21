#!/bin/bash
# sbatch benchmarks/cluster/slurm.sh, from the checkout, once the library is installed in .venv.
#SBATCH --job-name=adjoint-scaling
#SBATCH --ntasks=100
#SBATCH --cpus-per-task=1
#SBATCH --time=02:00:00
#SBATCH --exclusive
launch() {
    local ranks=$1
    shift
    srun --ntasks="$ranks" --cpus-per-task="${THREADS:-1}" --cpu-bind=cores "$@"
}
. benchmarks/cluster/scaling.sh
