#!/bin/bash
# Runs a study as an array job, one shard for each task, on a file system that all nodes share:
#   sbatch --array=1-8 examples/ablation/slurm.sh specs/ablations/filter_kind.yaml
# A job that is cut off goes on where it stopped when it is submitted again; --signal gives cells two
# minutes to save. Afterwards:
#   nifbuild ablate report specs/ablations/filter_kind.yaml
#SBATCH --job-name=ablation
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=ablation-%A-%a.log
set -euo pipefail
study=${1:?name a study}
shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
srun nifbuild ablate run "$study" --shard "$shard"
