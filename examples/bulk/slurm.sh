#!/usr/bin/env bash
# Score a folder on Slurm: sbatch slurm.sh. Ray runs on all machines; the first is its head and runs the driver, too.
#SBATCH --job-name=anomalyclip-score
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=128
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
set -euo pipefail

source "$HOME/anomalyclip/bin/activate" # the same environment on all machines
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null # in the home folder, which all machines share
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
size=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus=8 --block)

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port=6379 "${size[@]}" &
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" ray start --address="$ip:6379" "${size[@]}" &
fi
until ray status --address "$ip:6379" > /dev/null 2>&1; do sleep 2; done

# Slurm's TERM, five minutes before the time is over, lets the parts in progress end. The next start goes on there.
anomalyclip score /shared/photos --output /shared/scores --model /shared/anomalyclip-vit-l --ray "$ip:6379" \
    --workers $((SLURM_JOB_NUM_NODES * 32)) --gpus-per-worker 0.25 --cpus-per-worker 4 --num-workers 8 --wait 600 \
    --part-size 2000 --batch-size 32 --dtype bfloat16 &
driver=$!
trap 'kill -TERM "$driver"' TERM
wait "$driver" && code=0 || code=$?
if kill -0 "$driver" 2> /dev/null; then # the signal has ended the first wait
    wait "$driver" && code=0 || code=$?
fi
if [ "$code" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
