#!/bin/bash
# sbatch [OPTIONS OF SBATCH] slurm.sh ARGUMENTS: run `fbnetv3 ARGUMENTS` in every task of a job. If the time of the job does
# not suffice, it puts itself into the queue again, so the arguments need --resume. docs/slurm.md explains the lines.
#SBATCH --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8
#SBATCH --time=24:00:00 --signal=USR1@180 --requeue --open-mode=append
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
srun --kill-on-bad-exit fbnetv3 "$@"
code=$?
if [ $code -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
