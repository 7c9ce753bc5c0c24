"""The tables, in the SQL that SQLite and PostgreSQL share.

`timers` holds what is owed, `slots` what must outlive a timer (the highest generation, the last delivery), `dead` what
was given up. `due_at` of a claimed timer is the end of its claim, so the one index serves waiting, retries and claims
whose holder died.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 1

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS agents (
        id {serial} PRIMARY KEY, name TEXT NOT NULL UNIQUE, audience TEXT NOT NULL UNIQUE,
        created_at {real} NOT NULL, revoked_at {real}, max_timers BIGINT, rate {real})""",
    """CREATE TABLE IF NOT EXISTS tokens (
        token_hash TEXT PRIMARY KEY, agent_id BIGINT NOT NULL, created_at {real} NOT NULL, expires_at {real})""",
    """CREATE TABLE IF NOT EXISTS seen (agent_id BIGINT PRIMARY KEY, seen_at {real} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS slots (
        agent_id BIGINT NOT NULL, job_id {bytewise} NOT NULL, generation BIGINT,
        done_fire_at BIGINT, done_schedule_id TEXT, done_at {real}, PRIMARY KEY (agent_id, job_id))""",
    """CREATE TABLE IF NOT EXISTS timers (
        schedule_id TEXT PRIMARY KEY, agent_id BIGINT NOT NULL, job_id {bytewise} NOT NULL,
        fire_at BIGINT NOT NULL, fire_text TEXT NOT NULL, callback_url TEXT NOT NULL, host TEXT NOT NULL,
        armed_at {real} NOT NULL, due_at {real} NOT NULL, attempts BIGINT NOT NULL DEFAULT 0,
        first_attempt_at {real}, in_flight INTEGER NOT NULL DEFAULT 0, current INTEGER NOT NULL DEFAULT 1,
        last_error TEXT)""",
    """CREATE TABLE IF NOT EXISTS dead (
        schedule_id TEXT PRIMARY KEY, agent_id BIGINT NOT NULL, job_id {bytewise} NOT NULL,
        fire_at BIGINT NOT NULL, fire_text TEXT NOT NULL, callback_url TEXT NOT NULL, host TEXT NOT NULL,
        attempts BIGINT NOT NULL, first_attempt_at {real} NOT NULL, died_at {real} NOT NULL, last_error TEXT)""",
    """CREATE UNIQUE INDEX IF NOT EXISTS timers_slot ON timers (agent_id, job_id, fire_at)""",
    """CREATE INDEX IF NOT EXISTS timers_due ON timers (due_at, host, agent_id)""",
    """CREATE INDEX IF NOT EXISTS slots_done ON slots (done_at)""",
    """CREATE INDEX IF NOT EXISTS dead_died ON dead (died_at)""",
)
