# One image for gateway, worker, init and every other command: docker build -t fleetbridge:local .
FROM node:24-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# --ignore-scripts: the package `node` would fetch a second Node 24 (189 MB) in its install script, past the lock file; the image is Node 24.
# --omit=optional: the embedded Postgres stays out; containers have DATABASE_URL.
RUN npm ci --omit=dev --omit=optional --ignore-scripts

FROM node:24-slim
ENV NODE_ENV=production
# One port for every command, so that one health check fits them all; a worker alone would take 8083.
ENV BRIDGE_OPS_PORT=8081
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY bin ./bin
COPY cli ./cli
COPY gateway ./gateway
COPY platform ./platform
COPY schema ./schema
COPY simulator ./simulator
COPY worker ./worker
# Everything above belongs to root: the process cannot change its own program.
USER node
EXPOSE 1883 8080 8081 8443 8883
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.BRIDGE_OPS_PORT + '/livez').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "bin/fleetbridge.js"]
CMD ["--help"]
