#!/bin/bash
# Trains a spec on several nodes, one process for each GPU, on a file system that all nodes share:
#   sbatch --nodes=2 examples/slurm.sh specs/resnet18_imagenet.yaml --precision bf16
# Results do not depend on how many nodes share a batch. Three minutes before its time is over, and
# where another job takes its place, the run saves a checkpoint; then the job is queued again, and
# goes on from there. Submitting it once more goes on, too, also after a node has failed.
#SBATCH --job-name=nifbuild
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=nifbuild-%j.log
set -euo pipefail
: "${1:?name a spec}"
export MASTER_ADDR MASTER_PORT PROCESSES
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
PROCESSES=${SLURM_GPUS_ON_NODE:-1}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150  # seconds to save; torchrun waits for 30 by itself

# Each node has a number of its own, so that it is the node that looks at it.
srun --kill-on-bad-exit=0 bash -c 'exec torchrun --nnodes="$SLURM_NNODES" \
    --node-rank="$SLURM_NODEID" --nproc-per-node="$PROCESSES" \
    --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" \
    -m nifbuild train "$@" --resume' torchrun "$@" &
step=$!

queue_again() {
    trap '' USR1
    kill -TERM "$step"  # srun passes it on to all nodes
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap queue_again USR1
trap 'kill -TERM "$step"; wait "$step"' TERM  # another job takes its place: Slurm queues it again
wait "$step"
