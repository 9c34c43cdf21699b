#!/bin/sh
# Run once by the image of PostgreSQL, on an empty volume: makes the role that RateGuard connects as, and
# its database. The role is no superuser, so that row-level security holds for it.
set -eu

psql --set=ON_ERROR_STOP=1 --set=password="$RATEGUARD_DATABASE_PASSWORD" \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE rateguard LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEROLE NOBYPASSRLS;
CREATE DATABASE rateguard OWNER rateguard;
SQL
