# syntax=docker/dockerfile:1
# One role per image: docker build --build-arg APP=<role> . (the folder of a role in apps/, such as receiver)
# `cli` holds all of them: its commands are `start` (everything in one process), `query`, `migrate` and `replay`.

FROM node:24-bookworm-slim AS build
# unix-dgram (DogStatsD over a Unix socket) is compiled against the image's own libc.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates g++ make python3 \
 && rm -rf /var/lib/apt/lists/*
RUN npm install --global pnpm@10.34.9
WORKDIR /app
# Only the lockfile decides what is fetched: a change of the sources does not fetch again.
COPY pnpm-lock.yaml pnpm-workspace.yaml package.json ./
RUN pnpm fetch
COPY . .
RUN pnpm install --frozen-lockfile --offline
ARG APP=cli
# What runs: the compiled packages, and of the dependencies those of this role. The layout stays, since the migrations are found by it.
RUN npm pkg delete scripts.prepare \
 && find . -name node_modules -type d -prune -exec rm -rf {} + \
 && rm -rf apps/*/src apps/*/client apps/*/test packages/*/src packages/*/test packages/testkit apps/demo test scripts docs .turbo \
 && pnpm --filter-prod "${APP}..." install --prod --frozen-lockfile --offline

FROM node:24-bookworm-slim
ARG APP=cli
ENV NODE_ENV=production \
    NODE_OPTIONS=--enable-source-maps \
    MALLOC_ARENA_MAX=1 \
    HEALTH_HOST=0.0.0.0 \
    HEALTH_PORT=8080
COPY --from=build /app /app
WORKDIR /app/apps/${APP}
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HEALTH_PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/bundle.js"]
