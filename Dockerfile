# lastword as an image: one static binary and the CA certificates, nothing else.
#
#   docker build -t lastword .
#   docker run --rm lastword --help
#
# To get it into an image of one's own:  COPY --from=lastword /lastword /usr/local/bin/
# Other base images: --build-arg BUILD_IMAGE=…, --build-arg FINAL_IMAGE=… (anything, for nothing of it is needed).
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG FINAL_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
ARG PROFILE=release
WORKDIR /build
COPY . .
# An explicit target keeps build scripts out of the static link; the script checks that the result is static.
RUN cp "$(scripts/static-build "${PROFILE}" | tail -n 1)" /lastword

FROM ${FINAL_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /lastword /lastword
ENTRYPOINT ["/lastword"]
