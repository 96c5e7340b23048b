# docker build -t lfads .
# docker build -t lfads --build-arg INDEX=https://pypi.org/simple .   torch with CUDA: docker run --gpus all
# docker run --rm -u $(id -u) -v "$PWD:/work" lfads train experiment=lorenz trainer.device=cpu:0
FROM python:3.13-slim
ARG INDEX=https://download.pytorch.org/whl/cpu
# the compiler is for the native kernel, which is built for the processor it runs on
RUN apt-get update && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /src/
RUN pip install --no-cache-dir -c /src/constraints.txt torch \
    --index-url ${INDEX}
COPY pyproject.toml README.md LICENSE /src/
COPY conf /src/conf
COPY lfads_lightning /src/lfads_lightning
RUN pip install --no-cache-dir -c /src/constraints.txt "/src[nwb,frames,parquet,s3]"
# whoever runs it (-u) has no home here: caches and what runs are remembered by go to the work
ENV HOME=/work XDG_CACHE_HOME=/work/.cache XDG_STATE_HOME=/work/.state
WORKDIR /work
RUN chmod 777 /work
USER 1000
ENTRYPOINT ["lfads"]
