#!/bin/bash
# One run of $preset for each seed, as an array of jobs. Submit it with: sbatch FILE
# Before a job's time is over its run saves and ends; the job then queues again and goes on with the
# same run. The front at the end is that of a run that nothing has interrupted.
#SBATCH --job-name=$preset
#SBATCH --array=$seeds
#SBATCH --time=$time
#SBATCH --cpus-per-task=$cpus
#SBATCH --mem=$memory
$gpus#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=$preset-%A_%a.log
# The warning goes to what srun starts (there is no B: before it), this many seconds early. SLURM
# may send it up to a minute earlier still; a generation of training fits in, or its chunks are kept.
#SBATCH --signal=USR1@$warning
set -u
seed="$$SLURM_ARRAY_TASK_ID"
run=$out/$preset-seed$$seed
mkdir -p $out

if [ -e "$$run/config.json" ]; then
    srun nets-deap resume "$$run" --progress lines
else
    srun nets-deap run $experiment --seed "$$seed" --out "$$run" --progress lines$settings
fi
status=$$?

# 128 + SIGUSR1: saved before the time was over. Anything else is the end, good or bad.
if [ "$$status" -eq 138 ]; then
    scontrol requeue "$${SLURM_ARRAY_JOB_ID}_$$SLURM_ARRAY_TASK_ID"
    sleep 60  # until the job is taken off
fi
exit "$$status"
