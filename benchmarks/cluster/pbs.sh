#!/bin/bash
# qsub benchmarks/cluster/pbs.sh, from the checkout, once the library is installed in .venv.
#PBS -N adjoint-scaling
#PBS -l select=4:ncpus=25:mpiprocs=25
#PBS -l walltime=02:00:00
#PBS -l place=excl
cd "${PBS_O_WORKDIR:-.}"
launch() {
    local ranks=$1
    shift
    mpiexec -n "$ranks" "$@"
}
. benchmarks/cluster/scaling.sh
