#!/bin/bash
# Evolution and the baselines on $preset, a job for each seed; then one that writes the table.
# Submit both with:
#   job=$$(sbatch --parsable FILE)
#   sbatch --dependency=afterok:$$job --array=0 --export=ALL,TABLE=yes FILE
# All write into one folder; what is there already is not run again, so jobs may be repeated.
#SBATCH --job-name=compare-$preset
#SBATCH --array=$seeds
#SBATCH --time=$time
#SBATCH --cpus-per-task=$cpus
#SBATCH --mem=$memory
$gpus#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=compare-$preset-%A_%a.log
set -eu
if [ -z "$${TABLE:-}" ]; then
    part="--seeds 1 --first-seed $$SLURM_ARRAY_TASK_ID"
else
    part="--seeds $count --first-seed $first"
fi
# shellcheck disable=SC2086
srun nets-deap compare $experiment $$part --out $out/compare-$preset$settings
