# Fluentd with the Kafka output that waits for delivery reports.
FROM fluent/fluentd:v1.19-debian-1@sha256:f29b1d1103afd4bbcab8a17ecfefb411674ec57694f0cbd6641b4ae4dd65e13b
USER root
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes build-essential libzstd-dev ruby-dev \
    && gem install --no-document rdkafka:0.24.2 fluent-plugin-kafka:0.19.5 \
    && apt-get purge --yes --auto-remove build-essential ruby-dev \
    && rm -rf /var/lib/apt/lists/*
USER fluent
COPY fluentd.conf /fluentd/etc/fluent.conf
