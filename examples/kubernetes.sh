#!/bin/bash
# InterFormer on 2 pods of 8 GPUs with Volcano. DRYRUN=--dryrun bash examples/kubernetes.sh prints the job instead of sending it.
set -euo pipefail
IMAGE=${IMAGE:-registry.example.com/team/interformer-rec:0.1.0}
# shellcheck disable=SC2086  # DRYRUN is one word or none
torchx run -s kubernetes -cfg queue=default,namespace=default,service_account=interformer ${DRYRUN:-} launch/components.py:train \
  --image "$IMAGE" -j 2x8 --gpu 8 --cpu 96 --memMB 900000 --shmMB 64000 --max_retries 3 \
  --mounts type=volume,src=datasets,dst=/data,readonly,type=volume,src=runs,dst=/runs \
  --config /runs/run.yaml -- --set=training.out=/runs/first
