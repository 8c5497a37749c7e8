#!/bin/bash
# One run of $preset on several nodes, through Ray. Submit it with: sbatch FILE
# Ray's processes talk to each other under a token that is drawn anew for each job.
#SBATCH --job-name=$preset-ray
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --time=$time
#SBATCH --cpus-per-task=$cpus
#SBATCH --mem=$memory
$gpus#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=$preset-ray-%j.log
# B: the warning goes to this script alone, which passes it on to the run; Ray stays up to save.
#SBATCH --signal=B:USR1@$warning
set -u
run=$out/$preset-seed$first-ray
mkdir -p $out
RAY_AUTH_TOKEN=$$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
nodes=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST")
head=$$(echo "$$nodes" | head -n 1)
address=$$(srun --nodes=1 --ntasks=1 --nodelist="$$head" hostname --ip-address | cut -d ' ' -f 1)
port=$$((20000 + SLURM_JOB_ID % 20000))
log=$preset-ray-%j-nodes.log

srun --nodes=1 --ntasks=1 --nodelist="$$head" --overlap --output="$$log" --open-mode=append \
    ray start --head --block --disable-usage-stats \
    --node-ip-address="$$address" --port="$$port" --num-cpus="$$SLURM_CPUS_PER_TASK"$ray_gpus \
    --include-dashboard=false &
if [ "$$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$$head" --overlap --output="$$log" --open-mode=append \
        ray start --block --address="$$address:$$port" \
        --num-cpus="$$SLURM_CPUS_PER_TASK"$ray_gpus &
fi
there=0
for _ in $$(seq 60); do  # a node that comes later yet gets its workers then
    there=$$(ray status --address="$$address:$$port" 2> /dev/null | grep -c '^ [0-9]* node_')
    [ "$$there" -lt "$$SLURM_JOB_NUM_NODES" ] || break
    sleep 1
done
echo "$$there of $$SLURM_JOB_NUM_NODES nodes have joined Ray."

workers=$$((SLURM_JOB_NUM_NODES * $each))
if [ -e "$$run/config.json" ]; then
    nets-deap resume "$$run" --progress lines \
        --map ray --address "$$address:$$port" --workers "$$workers" &
else
    nets-deap run $experiment --seed $first --out "$$run" --progress lines$settings \
        --map ray --address "$$address:$$port" --workers "$$workers" &
fi
search=$$!
trap 'kill -USR1 $$search' USR1
wait "$$search"
status=$$?
while kill -0 "$$search" 2>/dev/null; do  # a signal has ended the waiting, not the run
    wait "$$search"
    status=$$?
done
jobs -p | xargs -r kill 2>/dev/null
if [ "$$status" -eq 138 ]; then
    scontrol requeue "$$SLURM_JOB_ID"
    sleep 60
fi
exit "$$status"
