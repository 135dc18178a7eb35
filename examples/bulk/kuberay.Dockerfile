# The image of kuberay_job.yaml: Ray and this package, in the same versions on all machines.
FROM rayproject/ray:2.60.0-py312-gpu
COPY constraints.txt anomalyclip_hf-*.whl /tmp/
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /tmp/*.whl)[bulk]" s3fs
