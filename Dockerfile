# syntax=docker/dockerfile:1

# .ci/run executes the build command below as it stands, with OUT pointing elsewhere: keep it on one line.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ENV CGO_ENABLED=0 OUT=/out
RUN go build -trimpath -ldflags "-s -w" -o "$OUT/server" ./cmd/mcp-server-demo

# Static and without a shell: the binary, CA certificates, time zones, and a user that is not root.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/server /server
# The port is 8000, or what the platform says in PORT.
ENV MCP_SERVER_HOST=0.0.0.0
EXPOSE 8000
# By number: Kubernetes does not take a name for proof that it is not root.
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/server", "--healthcheck"]
ENTRYPOINT ["/server"]
