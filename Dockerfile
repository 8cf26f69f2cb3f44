# syntax=docker/dockerfile:1

# docker build -t tollgate .
# docker run --read-only -p 8080:8080 -v "$PWD/conf:/etc/tollgate:ro" tollgate
#
# The folder holds tollgate.toml and what it names. In it, `[server] listen = "0.0.0.0:8080"`: a port published by the
# container reaches no loopback listener. The admin listener stays on 127.0.0.1:9090, where the health check asks.

# The compiler that profile/tollgate.profdata was recorded with; any other builds without it.
FROM rust:1.95-bookworm AS builder
WORKDIR /source
COPY . .
# The caches survive between builds, the image layers do not need them. Line tables go: they are most of the size.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin tollgate \
    && install -D --strip target/release/tollgate /image/usr/local/bin/tollgate \
    && install -d /image/etc/tollgate

# The C library and libgcc, no shell, no package manager, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Tollgate" \
      org.opencontainers.image.description="An HTTP reverse-proxy gateway that enforces Stripe-style API limits" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=builder /image/ /
# By number: an orchestrator that asks for a user other than root cannot tell by a name.
USER 65532:65532
WORKDIR /etc/tollgate
# 8080: clients. 9090: metrics and health, for the container's own network only.
EXPOSE 8080 9090
# SIGTERM drains; give `docker stop --time` more than `drain_timeout`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/tollgate", "health"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run", "--config", "/etc/tollgate/tollgate.toml"]
